"""Targets and ranking metrics against hand-computed values, scipy and scikit-learn."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from sklearn.metrics import ndcg_score

from pretrain.personality.targets import QualityMeter, bce_floor, ndcg, recall, soft_targets


def test_soft_targets_by_hand() -> None:
    tokens = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[0.8, 0.6]])
    odds = math.exp((0.8 - 0.6) / 0.07)
    expected = torch.tensor([[odds / (1 + odds), 1 / (1 + odds)]])
    torch.testing.assert_close(soft_targets(text, tokens), expected)


def test_soft_targets_against_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    texts = F.normalize(torch.randn(9, 384, generator=generator))
    tokens = F.normalize(torch.randn(325, 384, generator=generator))
    expected = softmax(texts.double().numpy() @ tokens.double().numpy().T / 0.07, axis=1)
    # float32 cosines carry 1e-7, divided by 0.07.
    np.testing.assert_allclose(soft_targets(texts, tokens).numpy(), expected, rtol=2e-5)


def test_floor_is_where_the_loss_is_least() -> None:
    targets = torch.softmax(torch.randn(4, 325, generator=torch.Generator().manual_seed(1)).double() * 3, 1)
    best = torch.logit(targets)
    at_best = F.binary_cross_entropy_with_logits(best, targets)
    assert bce_floor(targets).item() == pytest.approx(at_best.item(), abs=1e-12)
    assert F.binary_cross_entropy_with_logits(best + 0.01, targets) > bce_floor(targets)
    assert bce_floor(torch.tensor([[0.0, 1.0]])).item() == 0.0


def test_recall_by_hand() -> None:
    targets = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    logits = torch.tensor([[9.0, -1.0, 5.0, 0.0]])
    assert recall(logits, targets, 2).tolist() == [0.5]
    assert recall(logits, targets, 1).tolist() == [1.0]
    assert recall(logits, targets, 4).tolist() == [1.0]


def test_ndcg_against_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(2)
    targets = torch.softmax(torch.randn(20, 325, generator=generator) * 2, dim=1)
    logits = targets.log() + torch.randn(20, 325, generator=generator)
    ours = ndcg(logits, targets, 8)
    theirs = [ndcg_score(t[None], z[None], k=8) for t, z in zip(targets.numpy(), logits.numpy(), strict=True)]
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5)


def test_meter_weighs_batches_by_their_size() -> None:
    generator = torch.Generator().manual_seed(3)
    targets = torch.softmax(torch.randn(10, 325, generator=generator) * 2, dim=1)
    logits = targets.log() + torch.randn(10, 325, generator=generator)
    whole, parts = QualityMeter(), QualityMeter()
    whole.add(logits, targets)
    parts.add(logits[:7], targets[:7])
    parts.add(logits[7:], targets[7:])
    assert parts.result().loss == pytest.approx(whole.result().loss, rel=1e-12)
    assert parts.result().ndcg8 == pytest.approx(whole.result().ndcg8, rel=1e-6)
    expected = F.binary_cross_entropy_with_logits(logits.double(), targets.double()).item()
    assert whole.result().loss == pytest.approx(expected, rel=1e-12)
    assert whole.result().gap > 0
