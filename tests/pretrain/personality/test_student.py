"""The start at the teacher: logits that differ from the log-targets by one number per text."""

import pytest
import torch
import torch.nn.functional as F

from pretrain.personality.student import PARTITION_SCALE, Student, start_at_teacher
from pretrain.personality.targets import recall, soft_targets


def started(dim: int) -> tuple[Student, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    tokens = F.normalize(torch.randn(325, dim))
    # The projector's LayerNorm takes the mean away; texts without one show the rest to be exact.
    texts = torch.randn(40, dim)
    texts = F.normalize(texts - texts.mean(dim=1, keepdim=True))
    student = Student(dim, dropout=0.1).eval()
    start_at_teacher(student, tokens, texts)
    return student, tokens, texts


@pytest.mark.parametrize("dim", [384, 1536])
def test_start_is_the_teacher_up_to_a_constant(dim: int) -> None:
    student, tokens, texts = started(dim)
    assert (student.projector is None) == (dim == 1536)
    with torch.no_grad():
        logits = student(texts).double()
    similarity = texts.double() @ tokens.double().T / 0.07
    offset = logits - similarity
    # float32 products of length 1536 and 512, in units of logits that span ±3.
    assert (offset - offset.mean(dim=1, keepdim=True)).abs().max() < 1e-4
    assert recall(logits, soft_targets(texts, tokens).double(), 5).mean() == 1.0
    # The constant makes the mean log-partition zero: probabilities sum to about 1.
    assert torch.logsumexp(logits, dim=1).mean().abs() < 1e-3


def test_latent_has_a_direction_that_moves_all_logits_alike() -> None:
    student, _, texts = started(384)
    weight = student.model.projection.weight.detach().double()
    # Rows are (what is theirs, orthogonal to u) + PARTITION_SCALE * u, and the former have mean zero.
    mean = weight.mean(dim=0)
    assert mean.norm().item() == pytest.approx(PARTITION_SCALE, rel=1e-4)
    u = mean / mean.norm()
    torch.testing.assert_close(
        weight @ u, torch.full((325,), PARTITION_SCALE, dtype=torch.float64), rtol=1e-4, atol=0
    )
    with torch.no_grad():
        latent = student.model.input_projection(student.projector(texts)).double()  # type: ignore[misc]
    assert (latent @ u).abs().max() < 1e-5


def test_plain_start_is_pytorchs_own() -> None:
    torch.manual_seed(7)
    first = Student(384, dropout=0.1).state_dict()
    torch.manual_seed(7)
    second = Student(384, dropout=0.1).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["model.encoder.0.ffn_out.weight"].abs().max() > 0
