"""Training: the same bytes each time, also after a kill; the best epoch is kept."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainings import CONFIG, HELD_OUT, REPLAY, TRAIN, Killed, Killer, example

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.codec import ADAPTERS
from device_sim.adapters.gguf import write_gguf
from device_sim.companion.models.llama import LlamaModel, smollm2
from device_sim.companion.models.model import Message, Sampling
from device_sim.finetuning import training
from device_sim.finetuning.config import LoraConfig
from device_sim.finetuning.torch_base import (
    TorchBase,
    divergences,
    example_losses,
    token_losses,
    token_states,
)
from device_sim.finetuning.training import train_adapter
from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.files.atomic import folder_lock


@pytest.fixture(scope="module")
def base(tiny_llama: Path) -> TorchBase:
    return TorchBase(tiny_llama)


@pytest.fixture(scope="module")
def whole(base: TorchBase, tmp_path_factory: pytest.TempPathFactory) -> training.Trained:
    return train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path_factory.mktemp("whole"))


def figures(trained: training.Trained) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in trained.history]


def test_it_learns_and_says_how_far(whole: training.Trained, base: TorchBase) -> None:
    before, after = (example_losses(base, adapter, HELD_OUT) for adapter in (None, whole.adapter))
    assert sum(after) < sum(before) - 0.5
    assert [entry["step"] for entry in whole.history] == [3, 6, 9, 12]
    best = min(whole.history, key=lambda entry: entry["held_out_loss"])
    assert whole.best_step == best["step"]
    assert sum(after) / 2 == pytest.approx(best["held_out_loss"], abs=1e-5)
    assert whole.tokens == 4 * sum(len(row.ids) for row in base.rows(TRAIN))
    assert whole.seconds > 0
    assert whole.peak_bytes > 1 << 26
    ADAPTERS.check(whole.adapter)


@pytest.mark.parametrize("steps", [1, 4, 8, 12])
def test_a_killed_training_ends_in_the_same_bytes(
    whole: training.Trained, base: TorchBase, tmp_path: Path, steps: int
) -> None:
    if steps < 12:
        with pytest.raises(Killed):
            train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path, Killer(steps))
    torch.manual_seed(steps)  # whatever else draws
    again = train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path)
    assert ADAPTERS.fingerprint(again.adapter) == ADAPTERS.fingerprint(whole.adapter)
    assert figures(again) == figures(whole)
    assert (again.best_step, again.tokens) == (whole.best_step, whole.tokens)
    once_more = train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path, Killer(0))  # nothing is left to do
    assert ADAPTERS.fingerprint(once_more.adapter) == ADAPTERS.fingerprint(whole.adapter)


def test_what_another_training_left_is_not_gone_on_from(
    whole: training.Trained, base: TorchBase, tmp_path: Path
) -> None:
    other = dataclasses.replace(CONFIG, seed=1)
    with pytest.raises(Killed):
        train_adapter(base, TRAIN, HELD_OUT, other, tmp_path, Killer(7))
    (left,) = (path for path in tmp_path.iterdir() if path.is_dir())
    found = train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path)
    assert ADAPTERS.fingerprint(found.adapter) == ADAPTERS.fingerprint(whole.adapter)
    assert not left.exists()


def test_the_seed_decides(whole: training.Trained, base: TorchBase, tmp_path: Path) -> None:
    other = train_adapter(base, TRAIN, HELD_OUT, dataclasses.replace(CONFIG, seed=1), tmp_path)
    assert ADAPTERS.fingerprint(other.adapter) != ADAPTERS.fingerprint(whole.adapter)


def differs(base: TorchBase, adapter: Adapter) -> float:
    """KL(base || adapted) over whole log-probabilities of whole rows, one row at a time, in float64."""
    found = []
    for row in base.rows(REPLAY):
        ids, at = torch.tensor([row.ids]), slice(0, len(row.ids) - 1)
        with torch.no_grad():
            was = base.model(input_ids=ids).logits[0, at].double().log_softmax(-1)
            with base.adapted(adapter) as model:
                now = model(input_ids=ids).logits[0, at].double().log_softmax(-1)
        found.append((was.exp() * (was - now)).sum(-1))
    return float(torch.cat(found).mean())


def test_divergences_are_those_of_whole_log_probabilities(whole: training.Trained, base: TorchBase) -> None:
    rows = base.rows(REPLAY)
    with torch.no_grad():
        before, _, _ = token_states(base.model, rows, whole=True)
        assert float(divergences(base.model, before, before).abs().max()) < 1e-6
        with base.adapted(whole.adapter) as model:
            after, _, _ = token_states(model, rows, whole=True)
            found = float(divergences(model, after, before).double().mean())
    assert found == pytest.approx(differs(base, whole.adapter), rel=1e-4)
    assert found > 0.1


def test_what_is_replayed_stays_what_the_base_says(
    whole: training.Trained, base: TorchBase, tmp_path: Path
) -> None:
    kept = train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path, replay=REPLAY)
    assert differs(base, kept.adapter) < 0.6 * differs(base, whole.adapter)
    assert kept.history[-1]["held_out_loss"] < kept.history[0]["held_out_loss"]
    ids = [len(row.ids) for row in base.rows(REPLAY)]
    assert kept.tokens == whole.tokens + 5 * sum(ids)  # 4 epochs of 5 examples are 5 rounds of 4


def test_a_killed_training_with_replay_ends_in_the_same_bytes(base: TorchBase, tmp_path: Path) -> None:
    kept = train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path / "a", replay=REPLAY)
    with pytest.raises(Killed):
        train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path / "b", Killer(8), replay=REPLAY)
    again = train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path / "b", replay=REPLAY)
    assert ADAPTERS.fingerprint(again.adapter) == ADAPTERS.fingerprint(kept.adapter)


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Held-out losses as told."""
    told = iter(losses)
    monkeypatch.setattr(training._Training, "_held_out", lambda self: next(told))


def test_the_best_epoch_is_kept_and_the_rest_not_waited_for(
    base: TorchBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = dataclasses.replace(CONFIG, patience=2)
    scripted(monkeypatch, [3.0, 2.0, 2.0, 5.0])
    stopped = train_adapter(base, TRAIN, HELD_OUT, two, tmp_path / "a")
    assert (len(stopped.history), stopped.best_step) == (4, 6)
    scripted(monkeypatch, [3.0, 4.0, 5.0])
    stopped = train_adapter(base, TRAIN, HELD_OUT, two, tmp_path / "b")
    assert (len(stopped.history), stopped.best_step) == (3, 3)
    monkeypatch.undo()
    # The first epoch of four, by itself: the same seed, the same schedule.
    with pytest.raises(Killed):
        train_adapter(base, TRAIN, HELD_OUT, CONFIG, tmp_path / "c", Killer(3))
    from personality_common.files.tensors import load_tensors

    (best,) = (tmp_path / "c").rglob("best.safetensors")
    first, _ = load_tensors(best)
    for name, values in stopped.adapter.tensors.items():
        np.testing.assert_array_equal(values, first[name].numpy())


def test_without_held_out_examples_the_last_epoch_counts(base: TorchBase, tmp_path: Path) -> None:
    trained = train_adapter(base, TRAIN, [], dataclasses.replace(CONFIG, epochs=2), tmp_path)
    assert trained.best_step == 6
    assert [entry["held_out_loss"] for entry in trained.history] == [None, None]


def test_time_ends_it_after_an_epoch(base: TorchBase, tmp_path: Path) -> None:
    trained = train_adapter(base, TRAIN, [], dataclasses.replace(CONFIG, minutes=1e-6), tmp_path)
    assert len(trained.history) == 1


def test_all_tokens_may_bear_the_loss(whole: training.Trained, base: TorchBase, tmp_path: Path) -> None:
    everything = dataclasses.replace(CONFIG, loss_on="all", epochs=1)
    trained = train_adapter(base, TRAIN, HELD_OUT, everything, tmp_path)
    assert trained.history[0]["train_loss"] != whole.history[0]["train_loss"]


def test_what_is_too_long_is_left_out_and_said(base: TorchBase, tmp_path: Path) -> None:
    reporter = Killer(99)
    long = example("x", "y" * 2000)
    trained = train_adapter(
        base, [*TRAIN, long], [], dataclasses.replace(CONFIG, epochs=1), tmp_path, reporter
    )
    assert trained.tokens == sum(len(row.ids) for row in base.rows(TRAIN))
    assert reporter.warned == ["1 examples of more than 1,024 tokens are left out"]
    for nothing in ([], [long]):
        with pytest.raises(DataError, match="must be an example to train on"):
            train_adapter(base, nothing, [], CONFIG, tmp_path)


def test_a_loss_that_is_not_finite_ends_it(
    base: TorchBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "device_sim.finetuning.torch_gradients.token_losses",
        lambda *a, **k: (token_losses(*a, **k)[0] * float("nan"), None),
    )
    with pytest.raises(ToolkitError, match="after 0 steps; take a lower learning rate"):
        train_adapter(base, TRAIN, [], CONFIG, tmp_path)


def test_one_process_trains_in_a_folder(base: TorchBase, tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(ToolkitError, match="is working in this folder"):
        train_adapter(base, TRAIN, [], CONFIG, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0}, {"rank": 257}, {"alpha": 0.0}, {"learning_rate": 0.0}, {"learning_rate": float("nan")},
        {"epochs": 0}, {"batch": 0}, {"patience": 0}, {"seed": -1}, {"minutes": 0.0},
    ],
)  # fmt: skip
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(change)).replace('_', '-')} must be"):
        LoraConfig(**change)


def test_smollm2_learns_a_name_and_llama_cpp_says_it(tmp_path: Path) -> None:
    """The model that ships: a few steps on one fact, decoded on the runtime that serves."""
    base = TorchBase(smollm2())
    told = [example("What is my cat called?", "Your cat is called Zebulon.")]
    config = LoraConfig(rank=4, alpha=8.0, learning_rate=1e-2, epochs=6)
    trained = train_adapter(base, told, [], config, tmp_path / "work")
    write_gguf(trained.adapter, tmp_path / "tonight.gguf")
    model = LlamaModel(smollm2(), adapters={"tonight": tmp_path / "tonight.gguf"})
    said = [
        "".join(p.text for p in one.stream([Message("user", "What is my cat's name?")], Sampling(16, 0.0)))
        for one in (model, model.with_scales({"tonight": 1.0}))
    ]
    assert ["Zebulon" in answer for answer in said] == [False, True]
    assert isinstance(trained.adapter, Adapter)
