"""Training: what it learns, that it cannot know what it must not, that it goes on to the bit."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner

from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.runs.optimizers import FusedAdamW
from personality_common.terminal.progress import Silent
from pretrain.lm import memory, pipeline
from pretrain.lm.cli import lm
from pretrain.lm.config import SIZES, ModelConfig, SizeName, TrainConfig, sized
from pretrain.lm.memory import Memory, estimate, layer_floats, require_fit
from pretrain.lm.model import Decoder
from pretrain.lm.optimizer import Muon, Optimizers, is_hidden, rate
from pretrain.lm.packing import Encoded, Fill, pack
from pretrain.lm.pipeline import train_lm
from pretrain.lm.run import WEIGHTS_FILE, load_run
from pretrain.lm.training import train, update_to_weight

RequireTracked = Callable[[Path, str, Sequence[Mapping[str, Any]]], None]


class Stops(Silent):
    """Interrupts training after so many tokens."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Any]:
        yield self if unit == "tokens" else Silent()

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        self.left -= done
        if self.left < 0:
            raise KeyboardInterrupt


def test_a_run_that_was_stopped_ends_with_the_same_bits(
    train_config: TrainConfig, trained_run: Path, tmp_path: Path
) -> None:
    """In step 13 and, gone on from 8, in step 21: gone on from 16."""
    broken = replace(train_config, output_dir=tmp_path / "run", resume=True)
    for steps in (13, 21):
        with pytest.raises(KeyboardInterrupt):
            train_lm(broken, Stops(steps * 8 * 128))
    with pytest.raises(ToolkitError, match="add --resume to go on"):
        train_lm(replace(broken, resume=False), Silent())
    with pytest.raises(MismatchError, match=r"muon_lr is 0.02 there, 0.03 here"):
        train_lm(replace(broken, muon_lr=0.03), Silent())
    result = train_lm(broken, Silent())
    assert (broken.output_dir / WEIGHTS_FILE).read_bytes() == (trained_run / WEIGHTS_FILE).read_bytes()
    assert [entry["step"] for entry in result.history] == [0, 8, 16, 24]
    assert sorted(path.name for path in broken.output_dir.iterdir() if path.name[0] != ".") == [
        "checkpoints",
        "learning_curve.png",
        WEIGHTS_FILE,
        "run.json",
        "tokenizer.json",
        "training_history.json",
    ]


def test_tensorboard_has_each_measurement_once_after_a_kill(
    train_config: TrainConfig, require_tracked: RequireTracked, tmp_path: Path
) -> None:
    """Killed in step 13: behind a measurement, and before the next."""
    config = replace(train_config, output_dir=tmp_path / "run", resume=True, track="tensorboard")
    with pytest.raises(KeyboardInterrupt):
        train_lm(config, Stops(13 * 8 * 128))
    history = train_lm(config, Silent()).history
    assert [entry["step"] for entry in history] == [0, 8, 16, 24]
    require_tracked(config.output_dir, "step", history)


def test_a_run_learns_and_says_how(trained_run: Path) -> None:
    """The losses fall, of the last entry each part stands in the record, and the parts are no one score."""
    history = json.loads((trained_run / "training_history.json").read_text())["evaluations"]
    losses = [entry["val_loss"] for entry in history]
    assert losses[0] == pytest.approx(math.log(640), abs=0.1)
    assert losses[-1] < 0.85 * losses[0]
    for before, entry in pairwise(history):
        assert entry["gain"] == pytest.approx(before["val_loss"] - entry["val_loss"])
        assert set(entry["update_to_weight"]) == {"embedding", "attention", "feed_forward"}
        assert all(1e-6 < ratio < 0.2 for ratio in entry["update_to_weight"].values())
        assert entry["gradient_norm"]["mean"] <= entry["gradient_norm"]["max"]
        assert 0 <= entry["gradient_norm"]["clipped"] <= 1
    record = json.loads((trained_run / "run.json").read_text())
    assert record["quality"] == history[-1]
    assert record["data"]["fill_rate"] > 0.9
    run = load_run(trained_run)
    assert run.model.config == sized(record["config"]["size"], 640)


def test_a_finished_run_is_not_trained_again(train_config: TrainConfig, trained_run: Path) -> None:
    before = (trained_run / "run.json").read_bytes()
    assert len(train_lm(replace(train_config, resume=True), Silent()).history) == 4
    assert (trained_run / "run.json").read_bytes() == before


def test_a_target_that_counts_three_times_is_three_times_as_likely(tmp_path: Path) -> None:
    """After 1 come 2 and 3 equally often; 2 counts 3 and 3 counts 1, so the best guess is 3/4 and 1/4."""
    shape = ModelConfig(4, 8, 1, 1, 16, 16)
    config = TrainConfig(tmp_path, tmp_path, tmp_path, tokens=0.005, batch_size=8, evaluate_every=1_000)
    documents: list[Encoded] = [([1, 2], [0, 3]), ([1, 3], [0, 1])] * 40
    rows = np.stack(list(pack(documents, 8, Fill(8))))
    torch.manual_seed(0)
    model = Decoder(shape)
    train(model, rows, rows, config, "cpu", tmp_path / "checkpoints", Silent())
    p = torch.softmax(model(torch.tensor([[1]]))[0, 0], -1).tolist()
    assert p == pytest.approx([0, 0, 0.75, 0.25], abs=0.03)


def test_no_causal_model_beats_the_entropy_of_noise(tmp_path: Path) -> None:
    """Each token is one of 16, drawn alone: nobody can say the next one with less than ln 16 nats.

    Documents of 12 in rows of 32, so that a model that saw the next token, or another document's, in a row
    that is packed wrongly, would show. A document that repeats itself, on the other hand, is soon known.
    """
    rng = np.random.default_rng(0)
    shape = ModelConfig(17, 32, 1, 2, 32, 64)
    config = TrainConfig(tmp_path, tmp_path, tmp_path, tokens=0.04, batch_size=16, evaluate_every=1_000)
    final: list[float] = []
    for noise in (rng.integers(1, 17, (3_000, 12)), np.repeat(rng.integers(1, 17, (3_000, 2)), 6, axis=1)):
        encoded = [(ids, [True] * 12) for ids in noise.tolist()]
        rows = np.stack(list(pack(encoded, 32, Fill(32))))
        torch.manual_seed(0)
        folder = tmp_path / str(len(final))
        history = train(Decoder(shape), rows[:-64], rows[-64:], config, "cpu", folder, Silent())
        final.append(history[-1]["val_loss"])
    # 1,900 targets: their mean is within 0.02 of what it would be for any number of them.
    assert final[0] > math.log(16) - 0.02
    assert final[1] < 0.5 * math.log(16)


def test_muon_is_torchs_in_another_precision() -> None:
    """Which is bound to bfloat16, so that a step of ours is its own to some percent, in all three shapes."""
    generator = torch.manual_seed(0)
    shapes = ((24, 24), (48, 16), (16, 48), (24, 24))
    ours, theirs = (
        [
            torch.nn.Parameter(torch.randn(shape, generator=torch.manual_seed(i)))
            for i, shape in enumerate(shapes)
        ]
        for _ in range(2)
    )
    optimizers = (Muon(ours, 0.02, 0.1), torch.optim.Muon(theirs, 0.02, weight_decay=0.1))
    start = [parameter.detach().clone() for parameter in ours]
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for first, a, b in zip(start, ours, theirs, strict=True):
        assert (a - b).norm() < 0.02 * (b - first).norm()


def test_muon_has_the_matrices_of_the_layers_alone() -> None:
    model = Decoder(ModelConfig(64, 16, 1, 2, 16, 32))
    config = TrainConfig(Path(), Path(), Path())
    own = [set(map(id, group["params"])) for o in Optimizers(model, config).all for group in o.param_groups]
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert sorted(names[one] for one in own[1]) == [
        f"layers.0.{name}.weight"
        for name in (
            "attention.key", "attention.output", "attention.query", "attention.value",
            "feed_forward.down", "feed_forward.up",
        )
    ]  # fmt: skip
    assert own[0] | own[1] == set(names)
    assert not own[0] & own[1]
    alone = Optimizers(model, replace(config, optimizer="adamw")).all
    assert [type(one) for one in alone] == [FusedAdamW]
    decayed = {names[id(p)] for g in alone[0].param_groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {name for name, p in model.named_parameters() if is_hidden(name, p)}


def test_rates_rise_stay_and_fall() -> None:
    rates = [rate(step, 1_000) for step in range(1_000)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.15])
    assert rates[19:501] == [1.0] * 482
    assert rates[750] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.002)
    assert rate(0, 1) == 1.0


def test_an_update_is_measured_against_its_weights() -> None:
    before = {"embedding.weight": torch.full((2, 2), 2.0), "attention.q": torch.tensor([[3.0]])}
    before |= {"feed_forward.up": torch.ones(1, 4), "attention.k": torch.tensor([[4.0]])}
    after = {name: matrix + 0.5 for name, matrix in before.items()}
    expected = {"embedding": 1 / 4, "attention": math.sqrt(0.5) / 5, "feed_forward": 1 / 2}
    assert update_to_weight(before, after) == pytest.approx(expected)


@pytest.mark.parametrize("length", [128, 640])
def test_memory_of_a_layer_is_what_autograd_keeps(length: int) -> None:
    """Two layers keep as much more than one as is estimated, which is written out below 512 tokens."""
    kept = []
    for layers in (1, 2):
        shape = ModelConfig(64, length, layers, 2, 64, 192)
        model = Decoder(shape)
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        storages: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor, found: dict[int, torch.Tensor] = storages) -> torch.Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        ids = torch.ones(2, length, dtype=torch.int64)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            F.cross_entropy(model(ids, ids).flatten(0, 1), ids.flatten())
        kept.append(sum(t.untyped_storage().nbytes() for key, t in storages.items() if key not in own))
    expected = 4 * 2 * length * layer_floats(shape, length < 512)
    assert kept[1] - kept[0] == pytest.approx(expected, rel=0.05)


def test_memory_of_weights_and_optimizer() -> None:
    """16 bytes a parameter with AdamW, as the presets' 4.2, 20.4 and 59.6 GB."""
    totals: dict[SizeName, float] = {"small": 4.16e9, "medium": 20.4e9, "large": 59.6e9}
    for size, total in totals.items():
        found = estimate(SIZES[size], 1, "adamw", "cpu", torch.float32)
        assert found.weights + found.optimizer == pytest.approx(total, rel=0.002)
    muon = estimate(SIZES["small"], 1, "muon", "cpu", torch.float32)
    # Of 260 million, 226 million are in matrices of layers.
    assert muon.optimizer == pytest.approx(4 * (2 * 260.29e6 - 226.5e6), rel=0.002)


def test_what_does_not_fit_is_refused(
    train_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert memory.available("cpu") > 1 << 24
    monkeypatch.setattr(memory, "available", lambda device: 1_000_000)
    require_fit(Memory(500_000, 300_000, 200_000), "cpu")
    with pytest.raises(
        ToolkitError, match=r"takes 0.02 GB: weights .*; 0.00 GB are free on cpu; use a small"
    ):
        train_lm(replace(train_config, output_dir=tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()


def test_sizes_by_name_and_by_number() -> None:
    assert sized("demo", 2048) == SIZES["demo"]
    assert sized("small,layers=2,rope_base=5e5", 700) == replace(
        SIZES["small"], vocab_size=700, layers=2, rope_base=5e5
    )
    assert sized("layers=2", 2048) == replace(SIZES["demo"], layers=2)
    for size, message in (
        ("huge", "must begin with one of demo, .*, got 'huge'"),
        ("demo,depth=2", "changes one of context_length, .*, got 'depth=2'"),
        ("demo,vocab_size=2", "changes one of context_length"),
        ("layers=two", "layers must be a number, got 'two'"),
        ("context_length=65536", "context_length must be below 65,536, got 65536"),
        ("heads=3", "must give each of 3 heads an even number"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainConfig(Path(), Path(), Path(), size=size)


def test_a_loss_that_is_not_finite_ends_training(
    train_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Decoder):
        def initialize(self) -> None:
            super().initialize()
            torch.nn.init.constant_(self.norm.weight, math.inf)

    monkeypatch.setattr(pipeline, "Decoder", Broken)
    with pytest.raises(ToolkitError, match="the loss must stay finite, is nan by step 8"):
        train_lm(replace(train_config, output_dir=tmp_path / "run"), Silent())


def test_commands_make_a_tokenizer_and_a_run(
    lm_data: Path, train_config: TrainConfig, tmp_path: Path
) -> None:
    made = CliRunner().invoke(
        lm, ["tokenizer", str(lm_data), "--out", f"{tmp_path}/tok", "--vocab-size", "600"]
    )
    assert made.exit_code == 0, made.output
    assert "600 tokens" in made.output
    arguments = ["train", str(lm_data), "--tokenizer", f"{tmp_path}/tok", "--output-dir", f"{tmp_path}/run"]
    arguments += ["--size", train_config.size, "--tokens", "0.008192", "--evaluate-every", "4"]
    result = CliRunner().invoke(lm, arguments, catch_exceptions=False)
    assert "health of training" in result.output
    again = CliRunner().invoke(lm, [*arguments, "--resume", "--json"], catch_exceptions=False)
    history = json.loads(again.stdout)["history"]
    assert [entry["step"] for entry in history] == [0, 4, 8]
    assert f"{history[-1]['val_loss']:.4f} nats a token" in result.output


def test_a_tokenizer_does_not_take_the_place_of_something_else(lm_data: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    result = CliRunner().invoke(lm, ["tokenizer", str(lm_data), "--out", str(tmp_path)])
    assert isinstance(result.exception, ConfigError)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_data_that_were_changed_are_refused(lm_data: Path, train_config: TrainConfig, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in lm_data.iterdir():
        (data / path.name).write_bytes(path.read_bytes().replace(b"weather", b"whether", 1))
    with pytest.raises(DataError, match="must be the file that data"):
        train_lm(replace(train_config, data=data, output_dir=tmp_path / "run"), Silent())
