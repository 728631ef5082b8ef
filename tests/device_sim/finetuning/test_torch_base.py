"""The model that is trained is the file that is served: weights, prompts, and what an adapter does."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from device_sim.adapters import gguf as adapter_file
from device_sim.adapters.adapter import Adapter
from device_sim.adapters.folders import write_peft
from device_sim.companion.models.llama import LlamaModel
from device_sim.companion.models.model import Message, Sampling
from device_sim.finetuning.examples import Example
from device_sim.finetuning.parity import adapter_parity, torch_rows
from device_sim.finetuning.torch_base import TorchBase, example_losses, row_losses, token_losses
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError

END = 2
"""`<|im_end|>`, which pads, too."""


def example(asked: str, answer: str) -> Example:
    return Example((Message("user", asked), Message("assistant", answer)))


EXAMPLES = [example("Hi", "Hello there."), example("The thing?", "It is <|im_end|> ten characters.")]


@pytest.fixture(scope="module")
def base(tiny_llama: Path) -> TorchBase:
    return TorchBase(tiny_llama)


def test_weights_are_those_that_transformers_reads(base: TorchBase, tiny_llama: Path) -> None:
    """Its own reader of GGUF, dequantisation and order of rows."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_llama.parent, gguf_file=tiny_llama.name, dtype=torch.float32
    )
    ours = base.model.state_dict()
    for name, tensor in theirs.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(base.model(ids).logits, theirs(ids).logits, rtol=0, atol=1e-5)


def test_rows_are_what_llama_cpp_reads(base: TorchBase, tiny_llama: Path) -> None:
    """By its own tokenizer over the template's text, where no text names a special token."""
    model = LlamaModel(tiny_llama)
    plain, hostile = base.rows(EXAMPLES)
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello there.<|im_end|>"
    request = {"content": text, "add_special": False, "parse_special": True}
    assert list(plain.ids) == model._server.post("/tokenize", request)["tokens"]
    assert list(plain.ids[: plain.prompt]) == model.prompt_ids(EXAMPLES[0].messages[:-1])
    assert plain.ids[-1] == hostile.ids[-1] == END
    assert END not in hostile.ids[hostile.prompt : -1]


def test_an_example_ends_with_an_answer() -> None:
    for messages in ((Message("user", "x"),), (Message("assistant", "x"),), EXAMPLES[0].messages[::-1]):
        with pytest.raises(DataError, match="must end with the assistant's"):
            Example(messages)
    with pytest.raises(DataError, match="must have a text"):
        example("x", " \n")


def test_losses_are_of_the_answer_and_its_end(base: TorchBase) -> None:
    """One row at a time, by transformers' own loss over labels; padding with the end's id is not the end."""
    rows = base.rows(EXAMPLES)
    found = example_losses(base, None, EXAMPLES)
    for row, loss in zip(rows, found, strict=True):
        labels = torch.tensor([[-100] * row.prompt + list(row.ids[row.prompt :])])
        with torch.no_grad():
            theirs = base.model(torch.tensor([row.ids]), labels=labels).loss
        assert loss == pytest.approx(float(theirs), abs=1e-5)
    _, of = token_losses(base.model, rows)
    assert of.bincount().tolist() == [len(row.ids) - row.prompt for row in rows]
    whole, of = token_losses(base.model, rows, whole=True)
    assert of.bincount().tolist() == [len(row.ids) - 1 for row in rows]
    assert math.isfinite(float(whole.sum()))
    assert row_losses(base.model, rows * 40)[:2] == pytest.approx(found, abs=1e-5)


def test_an_adapter_is_what_peft_makes_of_its_folder(
    base: TorchBase, make_adapter: Callable[..., Adapter], tiny_llama: Path, tmp_path: Path
) -> None:
    adapter = make_adapter()
    write_peft(adapter, tmp_path / "peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_llama.parent, gguf_file=tiny_llama.name, dtype=torch.float32
    )
    with pytest.warns(FutureWarning, match="is_gradient_checkpointing"):
        theirs = peft.PeftModel.from_pretrained(model, tmp_path / "peft")
    prompts = [row.ids for row in base.rows(EXAMPLES)]
    before = torch_rows(base.model, prompts)
    with base.adapted(adapter) as ours:
        np.testing.assert_allclose(torch_rows(ours, prompts), torch_rows(theirs, prompts), atol=1e-5)
        assert np.abs(torch_rows(ours, prompts) - before).max() > 0.1
    np.testing.assert_array_equal(torch_rows(base.model, prompts), before)


def test_another_base_or_shape_is_refused(base: TorchBase, make_adapter: Callable[..., Adapter]) -> None:
    adapter = make_adapter()
    other = dataclasses.replace(adapter, base_sha256="0" * 64)
    with pytest.raises(MismatchError, match=r"must be of tiny\.gguf .* is of '000000000000'"):
        example_losses(base, other, EXAMPLES)
    name = "model.layers.0.mlp.up_proj.lora_A"
    less = dataclasses.replace(adapter, tensors={**adapter.tensors, name: adapter.tensors[name][:, :8]})
    with pytest.raises(MismatchError, match="of shape"):
        example_losses(base, less, EXAMPLES)
    assert not hasattr(base.model, "peft_config")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope.scaling.type": "yarn"}, "without scaling"),
        ({"embedding_length": 0}, "embedding_length must be above 0"),
        ({"attention.head_count_kv": 3}, "must be a tensor of a plain llama"),
        ({"attention.head_count": 0}, "1 to 1024 heads"),
        ({"feed_forward_length": 128}, "must be a tensor of a plain llama"),
        ({"block_count": 3}, "lacks model.layers.2"),
        ({"rope.dimension_count": 8}, "rotate whole heads"),
    ],
)
def test_what_is_no_plain_llama_is_refused(
    make_tiny_llama: Any, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        TorchBase(make_tiny_llama(tmp_path / "odd.gguf", changes=changes))


def test_llama_cpp_computes_the_same(
    base: TorchBase, make_adapter: Callable[..., Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And would not, if rows of q and k lay as in PyTorch: the numbers tell, the likeliest token does not."""
    checks = adapter_parity(base, make_adapter(), EXAMPLES, tmp_path)
    assert [check.status for check in checks] == ["passed"] * 2
    small = make_adapter(size=0.04)
    (tmp_path / "wrong").mkdir()
    monkeypatch.setattr(adapter_file, "to_llama_order", lambda rows, heads: rows)
    distance, alike = adapter_parity(base, small, EXAMPLES, tmp_path / "wrong")
    assert distance.failed
    assert distance.measured is not None
    assert distance.limit is not None
    assert distance.measured > 10 * distance.limit
    assert alike.passed


def test_a_quantized_base_is_dequantised_as_llama_cpp_does(
    make_tiny_llama: Any, make_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    base = TorchBase(make_tiny_llama(tmp_path / "q8.gguf", kind="Q8_0"))
    (tmp_path / "work").mkdir()
    checks = adapter_parity(base, make_adapter(base=base.path), EXAMPLES, tmp_path / "work")
    assert [check.status for check in checks] == ["passed"] * 2


def test_adapters_are_switched_by_request(
    tiny_llama: Path, make_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    """One loaded file, each answer with its own scales; between them nothing stays of the other."""
    files = {name: tmp_path / f"{name}.gguf" for name in ("one", "two")}
    for seed, (_, path) in enumerate(files.items()):
        adapter_file.write_gguf(make_adapter(seed), path)
    model = LlamaModel(tiny_llama, adapters=files)
    alone = {name: LlamaModel(tiny_llama, adapter=path) for name, path in files.items()}
    asked = [Message("user", "What is that?")]

    def said(which: LlamaModel) -> str:
        return "".join(piece.text for piece in which.stream(asked, Sampling(12, 0.0)))

    base = said(model)
    assert model.adapters == ()
    for name in ("one", "two", "one"):
        on = model.with_scales({name: 1.0})
        assert (on.adapters, on.name) == ((name,), f"tiny+{name}")
        assert said(on) == said(alone[name]) != base
        assert said(model) == said(model.with_scales({})) == base
    with pytest.raises(ConfigError, match="must be among one, two"):
        model.with_scales({"three": 1.0})
    with pytest.raises(ConfigError, match="finite scale"):
        model.with_scales({"one": math.inf})


def test_without_peft_one_line_says_how_to_get_it(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(
        ToolkitError, match=r"need the package peft; pip install 'personality-toolkit\[night\]'$"
    ):
        TorchBase(tiny_llama)
