"""Learning rates, at points computed by hand."""

import pytest
import torch

from personality_common.runs.schedule import cosine, set_learning_rate


def test_cosine() -> None:
    # cos(0), cos(60 degrees), cos(90 degrees), cos(180 degrees)
    expected = {0: 1e-4, 30: 0.75e-4 + 0.25e-6, 45: 0.5e-4 + 0.5e-6, 90: 1e-6}
    for step, lr in expected.items():
        assert cosine(step, 91, 1e-4, 1e-6) == pytest.approx(lr)
    assert cosine(0, 1, 1e-7, 1e-7) == 1e-7


def test_set_for_all_groups() -> None:
    one, other = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [one], "lr": 1.0}, {"params": [other], "lr": 2.0}])
    set_learning_rate(optimizer, 0.25)
    (one + other).sum().backward()
    optimizer.step()
    assert one.item() == other.item() == 0.75
