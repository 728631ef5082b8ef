"""Short cuts for a head whose bias alone has moved, against the logits of that head."""

import numpy as np
import pytest
import torch

from grpo.config import GRPOConfig
from grpo.head import Head, top_overlap
from grpo.kept_tops import CLOSE, KeptTops
from grpo.policies import Policy
from grpo.reference import CONFIDENCE, KINDS, Reference, largest

TEXTS, WIDTH = 50, 12


def reference_of(tokens: int) -> Reference:
    generator = torch.Generator().manual_seed(tokens)
    latents = torch.randn(TEXTS, WIDTH, generator=generator)
    weight = torch.randn(tokens, WIDTH, generator=generator) / WIDTH**0.5
    return Reference(latents, Head(weight, torch.randn(tokens, generator=generator) / 4), GRPOConfig())


@pytest.mark.parametrize("tokens", [20, 72, 325])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_what_a_moved_bias_has_spent_is_what_its_logits_say(tokens: int, scale: float) -> None:
    """At 30, whatever is far down comes in."""
    reference = reference_of(tokens)
    way = torch.randn(tokens, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    head = reference.moved(scale * way, None)
    spent = reference.spent(head)
    shares = top_overlap(head.logits(reference.latents), reference.logits)
    assert spent.overlap == pytest.approx(float(shares.mean()), abs=1e-12)
    assert spent.error == pytest.approx(float(shares.std() / TEXTS**0.5), rel=1e-9)
    # The same head, whose weight is not recognized as the shipped one.
    other = reference.spent(Head(head.weight.clone(), head.bias))
    assert (spent.overlap, spent.error) == (other.overlap, other.error)
    assert spent.kl == pytest.approx(other.kl, rel=1e-4, abs=1e-6)


def test_a_text_may_lose_all_of_its_top_8() -> None:
    reference = reference_of(325)
    away = torch.zeros(325, dtype=torch.float64)
    away[reference.top[0]] = -1e3
    head = reference.moved(away, None)
    spent = reference.spent(head)
    shares = top_overlap(head.logits(reference.latents), reference.logits)
    assert shares[0] == 0
    assert spent.overlap == pytest.approx(float(shares.mean()), abs=1e-12)


@pytest.mark.parametrize("policy", ["plackett-luce", "bernoulli"])
def test_kl_of_shifted_logits(policy: str) -> None:
    made: Policy = GRPOConfig(policy=policy, temperature=0.7).make_policy()  # type: ignore[arg-type]
    logits = reference_of(40).logits
    shift = torch.linspace(-2, 3, 40, dtype=torch.float64)
    ours = made.at(logits).kl_of_shifted(shift)
    theirs = made.at(logits.double() + shift).kl(made.at(logits))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_furthest_head_is_within_the_budget_and_leaves_little_of_it() -> None:
    reference = reference_of(325)
    way = torch.randn(325, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    step, head, spent = reference.furthest(way, 100.0)
    assert 0 < step < 100
    assert torch.equal(head.bias, reference.moved(way * step, None).bias)
    assert spent == reference.spent(head)
    assert reference.within(spent)
    # One token of one text is 1/400 of the overlap.
    assert spent.overlap - CONFIDENCE * spent.error < 0.7 + 0.02


@pytest.mark.parametrize("start", [None, 0.01, 0.3, 0.9, 5.0])
def test_largest_finds_where_a_margin_ends(start: float | None) -> None:
    found = largest(lambda s: 1 - (s / 0.4) ** 1.5, 1.0, 2.0, start)
    assert 0.395 < found <= 0.4
    assert largest(lambda s: 1.0, 1.0, 2.0, start) == 2.0
    assert largest(lambda s: -s, 0.0, 2.0, start) == 0.0


@pytest.mark.parametrize("others", [-0.1, 0.0, 0.1])
def test_tokens_that_are_not_close_enter_where_those_that_are_fall(others: float) -> None:
    """Whether their own bias has grown or not."""
    reference = reference_of(325)
    away = torch.full((325,), others, dtype=torch.float64)
    away[reference.logits[0].argsort(descending=True)[:40]] = -5.0
    head = reference.moved(away, None)
    shares = top_overlap(head.logits(reference.latents), reference.logits)
    assert shares[0] == 0
    assert reference.spent(head).overlap == pytest.approx(float(shares.mean()), abs=1e-12)


@pytest.mark.parametrize("gap", [2**-10, 0.25, 1.0, 4.0])
@pytest.mark.parametrize("many", [1, 5])
def test_tokens_that_are_not_close_enter_however_little_their_bias_has_grown(gap: float, many: int) -> None:
    """The top 8 are level at 0, the 16 that are close to them at -gap/4, and all others at -gap/2.

    Numbers are short in binary, so that none is rounded.
    """
    tokens = CLOSE + 10
    shipped = torch.arange(tokens) / 8
    level = torch.tensor([0.0] * 8 + [-gap / 4] * (CLOSE - 8) + [-gap / 2] * 10)
    tops = KeptTops((level - shipped).expand(3, -1).clone(), shipped)
    assert tops.tokens[0].sort().values.tolist() == list(range(8))
    # Where two of the 8 fall by gap/8, tokens that have grown to between 0 and that take their places.
    for grown, fallen, leave in ((1, 0, many), (1 / 2, 0, 0), (7 / 16, 0, 0), (7 / 16, 2, min(many, 2))):
        bias = shipped.clone()
        bias[CLOSE : CLOSE + many] += grown * gap
        bias[:fallen] -= gap / 8
        assert tops.overlap_by_bias(bias).mean == 1 - leave / 8
    # Only those that have grown are looked at.
    tops._far[CLOSE:] = torch.inf
    assert tops.overlap_by_bias(shipped).mean == 1
    bias = shipped.clone()
    bias[-1] += gap
    assert tops.overlap_by_bias(bias).mean == 1 - 1 / 8


@pytest.mark.parametrize(("texts", "likenesses"), [(50, KINDS), (9, 9)])
def test_likeness_is_a_product_with_the_samples_first_texts(texts: int, likenesses: int) -> None:
    """Of what texts are besides the sample's mean; its mean square over the sample is 1."""
    latents = reference_of(20).latents[:texts]
    reference = Reference(latents, reference_of(20).shipped, GRPOConfig())
    sample = latents.double().numpy()
    apart = sample - sample.mean(0)
    products = np.array([[text @ kind for kind in apart[:KINDS]] for text in apart])
    expected = products / np.sqrt((products**2).mean())
    assert reference.describing == (4, likenesses)
    np.testing.assert_allclose(reference.likeness(latents), expected, rtol=0, atol=1e-10)
    # A text's is its own, whichever others there are.
    torch.testing.assert_close(reference.likeness(latents[3:5]), torch.from_numpy(expected[3:5]))
