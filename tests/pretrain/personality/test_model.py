"""The model against PyTorch's own transformer, and the sizes that the contract names."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from personality_common.contract import HEAD_PARAMETERS
from pretrain.personality.model import EmbeddingProjector, EncoderLayer, PersonalityModel, SelfAttention


def full_attention(attention: SelfAttention, x: Tensor) -> Tensor:
    """8 heads of 64 over a sequence of length 1, softmax and all."""
    n = len(x)
    q, k, v = (
        linear(x).view(n, 1, 8, 64).transpose(1, 2) for linear in (attention.q, attention.k, attention.v)
    )
    weights = torch.softmax(q @ k.transpose(2, 3) / 8, dim=-1)
    out: Tensor = attention.out((weights @ v).transpose(1, 2).reshape(n, 512))
    return out


def test_sizes() -> None:
    model = PersonalityModel()
    assert sum(p.numel() for p in model.parameters()) == 7_258_437
    parameters = dict(model.named_parameters())
    assert len(parameters) == 36
    assert [tuple(parameters[name].shape) for name in HEAD_PARAMETERS] == [(325, 512), (325,)]
    assert sum(parameters[name].numel() for name in HEAD_PARAMETERS) == 166_725


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_attention_at_length_one_is_exact(batch: int) -> None:
    torch.manual_seed(batch)
    attention = SelfAttention()
    x = torch.randn(batch, 512) * 10
    assert torch.equal(attention(x), full_attention(attention, x))


def test_layer_agrees_with_pytorch() -> None:
    torch.manual_seed(0)
    ours = EncoderLayer(dropout=0.1).eval()
    theirs = nn.TransformerEncoderLayer(
        512, 8, 2048, dropout=0.1, activation=F.gelu, batch_first=True, norm_first=True
    ).eval()
    attention = ours.attention
    qkv = (attention.q, attention.k, attention.v)
    theirs.load_state_dict(
        {
            "self_attn.in_proj_weight": torch.cat(
                [m.weight for m in (attention.q, attention.k, attention.v)]
            ),
            "self_attn.in_proj_bias": torch.cat([m.bias for m in qkv]),
            "self_attn.out_proj.weight": attention.out.weight,
            "self_attn.out_proj.bias": attention.out.bias,
            "linear1.weight": ours.ffn_in.weight,
            "linear1.bias": ours.ffn_in.bias,
            "linear2.weight": ours.ffn_out.weight,
            "linear2.bias": ours.ffn_out.bias,
            "norm1.weight": ours.attention_norm.weight,
            "norm1.bias": ours.attention_norm.bias,
            "norm2.weight": ours.ffn_norm.weight,
            "norm2.bias": ours.ffn_norm.bias,
        }
    )
    x = torch.randn(16, 512)
    with torch.no_grad():
        # Products are summed in another order: a few roundings of values near 1.
        torch.testing.assert_close(ours(x), theirs(x.unsqueeze(1)).squeeze(1), rtol=1e-5, atol=1e-5)


def test_queries_and_keys_never_train() -> None:
    model = PersonalityModel()
    model(torch.randn(4, 1536)).sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {
        f"encoder.{layer}.attention.{part}.{kind}"
        for layer in (0, 1)
        for part in ("q", "k")
        for kind in ("weight", "bias")
    }


def test_head_is_what_turns_latents_into_logits() -> None:
    torch.manual_seed(0)
    model = PersonalityModel().eval()
    nn.init.normal_(model.output_bias)
    x = torch.randn(3, 1536)
    latent = model.backbone(x)
    assert latent.shape == (3, 512)
    expected = torch.einsum("nh,vh->nv", latent, model.projection.weight) + model.output_bias
    torch.testing.assert_close(model(x), expected, rtol=1e-5, atol=1e-5)


def test_projector_gives_unit_vectors() -> None:
    torch.manual_seed(0)
    embedding = EmbeddingProjector()(F.normalize(torch.randn(5, 384)))
    assert embedding.shape == (5, 1536)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(5))
