"""`--objective one-hot`: what apps do today, judged by the same verdict."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import device_sim.simulate.lives as module
import personality_common.cli as cli
from device_sim.heads.heads import open_heads
from device_sim.routes.update_task import TaskSettings, UpdateTask, one_hot_targets
from device_sim.simulate.config import SimulateConfig
from device_sim.simulate.html import report
from device_sim.simulate.simulation import simulate_phone
from grpo.baselines import ONE_HOT, tune_one_hot
from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head
from personality_common.errors import ConfigError
from personality_common.evidence.provenance import Provenance
from personality_common.terminal.progress import SILENT

TEXTS = str(Path(__file__).parents[3] / "fixtures" / "conversations.jsonl")
DRIFT, REWARD = "drift within budget", "reward on held-out texts rose"


def test_heads_are_those_of_the_packages_own_update_task(
    small: Callable[..., SimulateConfig],
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: Provenance,
) -> None:
    """Every night, by every route: a plain update task with one-hot targets makes the head delivered."""
    calls: list[Any] = []

    def spy(*arguments: Any) -> Any:
        calls.append(arguments)
        return tune_one_hot(*arguments)

    monkeypatch.setattr(module, "tune_one_hot", spy)
    config = small(objective="one-hot", grpo=GRPOConfig(), route="all", out=tmp_path / "out")
    with simulate_phone(config, SILENT) as (result, _):
        pass
    assert len(calls) == len(result.nights) == 2
    for (latents, groups, head, _, _), night in zip(calls, result.nights, strict=True):
        rewards = groups.rewards["reward"].numpy()
        liked = [
            {
                int(token)
                for set_, reward in zip(sets, row, strict=True)
                if reward > rewards.mean()
                for token in set_
            }
            for sets, row in zip(groups.actions.numpy(), rewards, strict=True)
        ]
        rows = [i for i, tokens in enumerate(liked) if tokens]
        targets = one_hot_targets([sorted(liked[i]) for i in rows], 325)
        task = UpdateTask(bundle / "PersonalityHead.mlpackage")
        task.weight, task.bias = (tensor.numpy().copy() for tensor in head)
        settings = TaskSettings(learning_rate=1.0, mini_batch_size=len(rows), epochs=10, shuffle=False)
        task.train(latents.numpy()[rows], targets, settings)
        held = night.delivery.head
        assert (held.weight.dtype, held.weight.shape) == (torch.float32, task.weight.shape)
        # Ten float32 steps in another order of sums: a few units in the last place of weights near 1.
        np.testing.assert_allclose(held.weight.numpy(), task.weight, rtol=0, atol=2e-6)
        np.testing.assert_allclose(held.bias.numpy(), task.bias, rtol=0, atol=2e-6)
        assert np.abs(task.bias - head.bias.numpy()).max() > 1e-4
        assert [check.passed for check in night.delivery.checks] == [True] * 3
        assert (night.update.night.steps, night.update.steps, night.update.night.scale) == (10, (), 1.0)
        # The gradient of the mean squared error at the start, by hand.
        x, z = latents.numpy()[rows].astype(np.float64), latents.numpy()[rows] @ head.weight.numpy().T
        at_logits = 2 * (z + head.bias.numpy() - targets) / targets.size
        norm = math.hypot(np.linalg.norm(at_logits.T @ x), np.linalg.norm(at_logits.sum(0)))
        assert night.update.night.gradient_norm == pytest.approx(norm, rel=1e-3)
    store = open_heads(tmp_path / "out" / "heads")
    assert store.show(store.active).record.settings == {"objective": "one-hot", **asdict(ONE_HOT)}
    assert "plackett-luce and one-hot targets under MSE" in report(result, made)


def test_the_verdict_is_honest_about_reward_and_drift(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lines(user: str, *budgets: object) -> tuple[int, dict[str, Any], dict[str, Any]]:
        file = tmp_path / "figures.json"
        options = ("--user", user, "--data", TEXTS, "--nights", 2, "--interactions", 8, "--json", file)
        arguments = ["pt", "simulate", bundle, "--objective", "one-hot", *options, *budgets]
        monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        document = json.loads(file.read_text())
        return int(stop.value.code or 0), {v["name"]: v for v in document["checks"]}, document

    def failed(lines: dict[str, Any]) -> set[str]:
        return {claim for claim, line in lines.items() if line["status"] != "passed"}

    # The default budgets: this objective goes past them, and its reward does not excuse it.
    code, found, document = lines("profile")
    assert (code, document["passed"], document["settings"]["objective"]) == (1, False, "one-hot")
    assert failed(found) == {DRIFT}
    assert found[DRIFT]["detail"].endswith("; nothing holds one-hot targets to it")
    metrics = [night["metrics"] for night in document["nights"]]
    assert min(m["overlap_shipped"] for m in metrics) < GRPOConfig().overlap_budget
    assert {m["scale"] for m in metrics} == {1.0}
    # Budgets judge and change nothing: without them the same head passes.
    wide = ("--kl-budget", "none", "--overlap-budget", "none")
    code, found, without = lines("profile", *wide)
    assert (code, failed(found), without["heads"]) == (0, set(), document["heads"])
    # Every reward inverted: pushed to what the user likes least.
    code, found, document = lines("contrary:inverted=1", *wide)
    assert (code, failed(found)) == (1, {REWARD})
    assert document["nights"][-1]["held_out"]["rise"] < 0


def test_nothing_liked_leaves_the_head() -> None:
    head = Head(torch.eye(12, 4), torch.zeros(12))
    groups = Groups(torch.tensor([[[0, 1], [2, 3]]]), {"reward": torch.full((1, 2), 0.5)})
    result = tune_one_hot(torch.ones(1, 4), groups, head, head, GRPOConfig())
    assert result.head is head
    assert result.reasons == ("nothing to learn: no candidate is above the mean reward",)
    assert (result.night.steps, result.night.changed_weights) == (0, 0)


def test_settings_that_would_do_nothing_are_refused(small: Callable[..., SimulateConfig]) -> None:
    with pytest.raises(ConfigError, match=r"--learning-rate, --inner-iterations: of GRPO's update"):
        small(objective="one-hot", grpo=GRPOConfig(learning_rate=1.0, inner_iterations=3))
    with pytest.raises(ConfigError, match="--objective must be one of learner, one-hot, got 'mse'"):
        small(objective="mse")
