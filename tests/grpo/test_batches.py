"""A head gets the same bits alone, in any batch of devices, anywhere in it, on any number of threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from grpo.config import GRPOConfig
from grpo.descent import make_descent
from grpo.groups import Groups
from grpo.head import Head
from grpo.tune import TunedHeads, tune_head, tune_heads
from personality_common.errors import DataError, ToolkitError

DEVICES, TEXTS, GROUP, VOCABULARY, DIM = 9, 13, 4, 325, 512
CONFIG = GRPOConfig(inner_iterations=5)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"optimizer": "momentum", "learning_rate": 5.0},
    {"optimizer": "adam", "learning_rate": 0.01},
    {"gradient_clip": 0.01},
    {"advantage_scale": "batch", "loss": "grpo"},
    {"loss": "dapo", "single_candidates": "similar", "similarity": 0.02},
    {"loss": "bnpo", "temperature": 0.7},
    {"loss": "gspo", "clip_low": 0.01, "clip_high": 0.01},
    {"loss": "cispo", "ratio": "set", "kl_estimator": "k2"},
    {"kl_stop": 0.004},
    {"kl_budget": 0.01, "overlap_budget": None},
    {"temperature": 0.05},  # candidates leave less than a thousandth of the mass
]


def shipped_head() -> Head:
    generator = torch.Generator().manual_seed(0)
    return Head(
        torch.randn(VOCABULARY, DIM, generator=generator) / 16, torch.randn(VOCABULARY, generator=generator)
    )


def nights(config: GRPOConfig, texts: int = TEXTS) -> tuple[Tensor, list[Groups], Head]:
    """Devices in different states: some have drifted, one hears nothing, some hear thumbs only."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.nn.functional.normalize(torch.randn(DEVICES, texts, DIM, generator=generator), dim=-1)
    drift = torch.linspace(0, 0.02, DEVICES)[:, None, None]
    shipped = shipped_head()
    heads = Head(
        shipped.weight + drift * torch.randn(DEVICES, VOCABULARY, DIM, generator=generator),
        shipped.bias.repeat(DEVICES, 1),
    )
    policy = config.make_policy()
    groups = []
    for device, logits in enumerate(heads.logits(latents)):
        actions = policy.sample(logits, GROUP, generator)
        rewards = torch.randn(texts, GROUP, generator=generator, dtype=torch.float64)
        if device % 3 == 1:
            rewards[torch.rand(texts, GROUP, generator=generator) < 0.6] = torch.nan
        if device == 4:
            rewards[:] = 1.0
        groups.append(Groups(actions, {"reward": rewards}, policy.at(logits).set_log_prob(actions)))
    return latents, groups, heads


def one_of(heads: Head, device: int) -> Head:
    return Head(heads.weight[device].clone(), heads.bias[device].clone())


def tuned_alone(latents: Tensor, groups: list[Groups], heads: Head, config: GRPOConfig) -> list[Head]:
    return [
        tune_head(z.clone(), g, one_of(heads, i), shipped_head(), config).head
        for i, (z, g) in enumerate(zip(latents, groups, strict=True))
    ]


def require_same_bits(tuned: TunedHeads, alone: list[Head], heads: Head, devices: list[int]) -> int:
    """Also that heads that did not move are those of the start; how many moved."""
    moved = {devices[i]: row for row, i in enumerate(tuned.moved.tolist())}
    for device in devices:
        if device in moved:
            ours = Head(tuned.head.weight[moved[device]], tuned.head.bias[moved[device]])
        else:
            ours = one_of(heads, device)
        for a, b in zip(ours, alone[device], strict=True):
            assert a.dtype == torch.float32
            assert a.numpy().tobytes() == b.numpy().tobytes(), device
    return len(moved)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_alone_and_in_a_batch(change: dict[str, Any]) -> None:
    config = replace(CONFIG, **change)
    latents, groups, heads = nights(config)
    alone = tuned_alone(latents, groups, heads, config)
    for devices in (list(range(DEVICES)), [8, 2, 5, 4, 0], [3, 1]):
        part = Head(heads.weight[devices], heads.bias[devices])
        tuned = tune_heads(latents[devices], [groups[i] for i in devices], part, shipped_head(), config)
        assert require_same_bits(tuned, alone, heads, devices) >= 1
        assert tuned.learnable.tolist() == [i != 4 for i in devices]
    if "kl_stop" in change:
        assert int(tuned.stopped.sum()) > 0
    if "kl_budget" in change:
        assert 0 < float(tuned.share.min()) < 1


@pytest.mark.parametrize("texts", [1, 3, 8, 20, 31, 50])
def test_whatever_the_number_of_texts(texts: int) -> None:
    latents, groups, heads = nights(CONFIG, texts)
    alone = tuned_alone(latents, groups, heads, CONFIG)
    tuned = tune_heads(latents, groups, heads, shipped_head(), CONFIG)
    require_same_bits(tuned, alone, heads, list(range(DEVICES)))


def test_whatever_the_number_of_threads() -> None:
    latents, groups, heads = nights(CONFIG, 50)
    once = tuned_alone(latents, groups, heads, CONFIG)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = tuned_alone(latents, groups, heads, CONFIG)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for x, y in zip(once, again, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_steps_are_those_of_torch_optim(optimizer: str) -> None:
    """Given the same gradients at the logits, and a device that stands still in the middle."""
    settings: dict[str, Any] = {"optimizer": optimizer, "adam_eps": 1e-3}
    config = replace(CONFIG, learning_rate=0.02, gradient_clip=0.5, **settings)
    latents, _, heads = nights(CONFIG)
    start = heads.logits(latents)
    descent = make_descent(latents, heads, start, config)
    parameters = [[t.double().requires_grad_() for t in one_of(heads, i)] for i in range(DEVICES)]
    make: Any = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    # With a small eps, Adam makes a full step of a gradient that is nothing but float32's rounding.
    rest = {"adam": {"eps": 1e-3}, "momentum": {"momentum": 0.9}}.get(optimizer, {})
    optimizers = [make(p, lr=0.02, **rest) for p in parameters]
    generator = torch.Generator().manual_seed(2)
    running = torch.ones(DEVICES, dtype=torch.bool)
    for step in range(4):
        gradient = torch.randn(start.shape, generator=generator, dtype=torch.float64) * (step + 0.05) / 50
        running[3] = step < 2
        norms = descent.gradient_norm(gradient)
        logits = descent.step(gradient, running)
        for i, (weight, bias) in enumerate(parameters):
            weight.grad, bias.grad = gradient[i].T @ latents[i].double(), gradient[i].sum(0)
            norm = torch.nn.utils.clip_grad_norm_([weight, bias], 0.5)
            assert float(norms[i]) == pytest.approx(float(norm), rel=1e-9)
            if i != 3 or step < 2:
                optimizers[i].step()
    assert logits.dtype == torch.float64
    everyone = torch.arange(DEVICES)
    tuned = descent.head(everyone, torch.ones(DEVICES, dtype=torch.float64))
    half = descent.head(everyone, torch.full((DEVICES,), 0.5, dtype=torch.float64))
    for i, (weight, bias) in enumerate(parameters):
        expected = latents[i].double() @ weight.detach().T + bias.detach()
        # float32 weights, up to 5 in size.
        torch.testing.assert_close(tuned.weight[i].double(), weight.detach(), rtol=0, atol=2e-6)
        torch.testing.assert_close(tuned.bias[i].double(), bias.detach(), rtol=0, atol=2e-6)
        torch.testing.assert_close(logits[i], expected, rtol=0, atol=2e-5)
        middle = (weight.detach() + heads.weight[i].double()) / 2
        torch.testing.assert_close(half.weight[i].double(), middle, rtol=0, atol=2e-6)
        change = torch.cat([(weight.detach() - heads.weight[i]).flatten(), bias.detach() - heads.bias[i]])
        assert float(descent.change()[i]) == pytest.approx(float(change.norm()), rel=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    latents, groups, heads = nights(CONFIG)
    shipped = shipped_head()
    with pytest.raises(DataError, match=r"latents, heads and groups must be .* and 8"):
        tune_heads(latents, groups[:8], heads, shipped, CONFIG)
    other = Groups(groups[0].actions[:, :2], {"reward": torch.zeros(TEXTS, 2)})
    with pytest.raises(DataError, match=r"groups must have one shape, got \(13, 4, 8\) and \(13, 2, 8\)"):
        tune_heads(latents, [*groups[:8], other], heads, shipped, CONFIG)
    with pytest.raises(ToolkitError, match="no weight moved in float32"):
        tune_heads(latents, groups, heads, shipped, replace(CONFIG, learning_rate=1e-13))
