"""The decoder, against transformers' own, documents apart, and what no causal model can do."""

import dataclasses
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Starcoder2Config, Starcoder2ForCausalLM

from personality_common.errors import ConfigError
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.config import SIZES, ModelConfig
from pretrain.lm.export.huggingface import hugging_face_config
from pretrain.lm.model import WRITTEN_OUT_BELOW, Cache, Decoder, generate

TINY = ModelConfig(97, 640, 3, 2, 24, 40, rope_base=500.0)


def rough(config: ModelConfig = TINY) -> Decoder:
    """A decoder in which everything matters: no weight is small, no bias 0, no scale 1."""
    model = Decoder(config).eval()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(index)) * 0.2)
    return model


def transformers_model(model: Decoder) -> Any:
    """The same weights in transformers' implementation, attention written out."""
    torch.manual_seed(1)
    settings = hugging_face_config(model.config)
    other = Starcoder2ForCausalLM(Starcoder2Config(**settings, attn_implementation="eager")).eval()
    ours = model.state_dict()
    theirs = {names.hugging_face: ours[names.ours] for names in tensor_names(model.config)}
    missing = other.load_state_dict(theirs | {"lm_head.weight": ours["embedding.weight"]})
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    return other


@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("demo", 1_154_240),
        ("standard", 3_456_000),
        ("small", 260_288_512),
        ("medium", 1_275_711_488),
        ("large", 3_725_826_048),
    ],
)
def test_sizes_have_the_parameters_that_they_claim(size: Any, parameters: int) -> None:
    with torch.device("meta"):
        model = Decoder(SIZES[size])
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters == SIZES[size].parameters


def test_every_tensor_has_one_name_elsewhere() -> None:
    model = Decoder(TINY)
    names = list(tensor_names(TINY))
    assert [n.ours for n in names] == list(model.state_dict())
    for column in zip(*names, strict=True):
        assert len(set(column)) == len(column)


@pytest.mark.parametrize("length", [30, 600], ids=["written out", "PyTorch's attention"])
def test_logits_and_gradients_are_those_of_transformers(length: int) -> None:
    assert 30 < WRITTEN_OUT_BELOW < 600
    model = rough()
    other = transformers_model(model)
    # Without the padding token: transformers gives its embedding no gradient.
    ids = torch.randint(1, 97, (2, length), generator=torch.manual_seed(0))
    ours, theirs = model(ids), other(ids).logits
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)
    for logits in (ours, theirs):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = dict(other.named_parameters())
    for names in tensor_names(TINY):
        found = model.get_parameter(names.ours).grad
        assert found is not None
        # A key's bias adds the same to all scores of a softmax: its gradient is 0 but for rounding.
        torch.testing.assert_close(found, gradients[names.hugging_face].grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("length", [24, 520], ids=["written out", "PyTorch's attention"])
def test_documents_in_a_row_are_as_if_apart(length: int) -> None:
    model = rough()
    ids = torch.randint(0, 97, (2, length), generator=torch.manual_seed(0))
    cuts = ([0, 5, 6, 17, length], [0, length - 1, length])
    documents = torch.stack(
        [torch.arange(len(c) - 1).repeat_interleave(torch.tensor(c).diff()) for c in cuts]
    )
    together = model(ids, documents * 7 + 3)
    for row, cut in enumerate(cuts):
        apart = [model(ids[row : row + 1, a:b])[0] for a, b in pairwise(cut)]
        torch.testing.assert_close(together[row], torch.cat(apart), atol=2e-5, rtol=2e-5)


def test_rows_of_one_document_need_no_ids() -> None:
    model = rough()
    ids = torch.randint(0, 97, (2, 20))
    torch.testing.assert_close(model(ids, torch.zeros_like(ids)), model(ids))


def test_a_token_sees_nothing_of_what_comes_after_it() -> None:
    """The gradient of each position's logits with regard to later embeddings is exactly 0."""
    model = rough()
    ids = torch.randint(0, 97, (1, 12))
    embedded: list[Tensor] = []

    def keep(module: object, inputs: object, output: Tensor) -> None:
        output.retain_grad()
        embedded.append(output)

    model.embedding.register_forward_hook(keep)
    logits = model(ids)
    logits[0, 5].sum().backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert gradient[0, 6:].abs().max() == 0
    assert (gradient[0, :6].abs().amax(1) > 0).all()


def test_on_random_tokens_nothing_beats_their_entropy() -> None:
    """A model that sees the token it is to predict falls below log(V) within these steps, far below."""
    torch.manual_seed(0)
    model = Decoder(ModelConfig(8, 16, 1, 2, 16, 32))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-2)
    losses = []
    for _ in range(60):
        ids = torch.randint(0, 8, (32, 16))
        loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 > torch.tensor(8.0).log().item() - 0.01


def test_the_cache_changes_nothing() -> None:
    model = rough()
    ids = torch.randint(0, 97, (2, 20), generator=torch.manual_seed(3))
    cache = Cache()
    steps = [model(ids[:, a:b], cache=cache) for a, b in ((0, 7), (7, 8), (8, 9), (9, 15), (15, 20))]
    assert cache.length == 20
    torch.testing.assert_close(torch.cat(steps, 1), model(ids), atol=2e-5, rtol=2e-5)


def test_generation_is_the_likeliest_token_of_the_whole_row_each_time() -> None:
    model = rough()
    prompt = [3, 1, 4, 1, 5]
    expected = list(prompt)
    for _ in range(12):
        expected.append(int(model(torch.tensor([expected]))[0, -1].argmax()))
    found = list(generate(model, prompt, 12))
    assert found == expected[5:]
    assert len(set(found)) > 1
    stop = found[4]
    assert list(generate(model, prompt, 12, {stop})) == found[: found.index(stop)]
    short = dataclasses.replace(model.config, context_length=8)
    model.config = short
    assert list(generate(model, prompt, 12)) == found[:3]


def test_draws_follow_their_generator() -> None:
    model = rough()
    drawn = [list(generate(model, [3], 20, (), 1.0, torch.Generator().manual_seed(s))) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_under_autocast_the_stream_is_narrow_and_the_logits_are_not() -> None:
    model = rough()
    ids = torch.randint(0, 97, (1, 16))
    seen: list[torch.dtype] = []
    model.layers[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model(ids)
    assert seen == [torch.bfloat16]
    assert narrow.dtype == torch.float32
    wide = model(ids)
    assert (narrow - wide).abs().mean() < 0.05 * wide.std()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "even number"),
        ({"heads": 24}, "even number"),
        ({"layers": 0}, "layers must be 1 or more, got 0"),
        ({"rope_base": 1.0}, "rope_base must be above 1"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TINY, **changes)
