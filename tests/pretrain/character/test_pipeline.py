"""A run: its resume, its record, its evaluation, and the commands."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.terminal.progress import Silent
from pretrain.character import distillation, evaluation
from pretrain.character.cli import character
from pretrain.character.config import TrainConfig
from pretrain.character.model import SkipModel
from pretrain.character.pipeline import train_character
from pretrain.character.records import read_examples
from pretrain.character.run import WEIGHTS_FILE, load_run

RequireTracked = Callable[[Path, str, Sequence[Mapping[str, Any]]], None]


class Stops(Silent):
    """Interrupts after so many examples."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Any]:
        yield self

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        self.left -= done
        if self.left < 0:
            raise KeyboardInterrupt


class Hears(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def config(data: Path, run: Path, **changes: Any) -> TrainConfig:
    return TrainConfig(data, run, epochs=6, batch_size=64, **changes)


def test_a_run_that_was_stopped_ends_with_the_same_bits(
    character_data: Path, character_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for epochs in (2.5, 1.2):
        with pytest.raises(KeyboardInterrupt):
            train_character(config(character_data, run, resume=True), Stops(int(epochs * 360)))
    with pytest.raises(ToolkitError, match="add --resume to go on"):
        train_character(config(character_data, run), Silent())
    with pytest.raises(MismatchError, match=r"seed is 0 there, 1 here"):
        train_character(config(character_data, run, resume=True, seed=1), Silent())
    train_character(config(character_data, run, resume=True), Silent())
    assert (run / WEIGHTS_FILE).read_bytes() == (character_run / WEIGHTS_FILE).read_bytes()
    assert load_run(run).temperatures == load_run(character_run).temperatures


def test_tensorboard_has_each_epoch_once_after_a_kill(
    character_data: Path, require_tracked: RequireTracked, tmp_path: Path
) -> None:
    tracked = config(character_data, tmp_path / "run", resume=True, track="tensorboard")
    with pytest.raises(KeyboardInterrupt):
        train_character(tracked, Stops(int(2.5 * 360)))
    history = train_character(tracked, Silent()).history
    require_tracked(tracked.output_dir, "epoch", history)


@pytest.fixture(scope="module")
def drawn_data(character_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same examples without their expected labels."""
    path = tmp_path_factory.mktemp("drawn") / "examples.jsonl"
    with path.open("w") as file:
        for line in (character_data / "examples.jsonl").read_text().splitlines():
            example = json.loads(line)
            del example["expected"]
            file.write(json.dumps(example) + "\n")
    manifest = "examples.manifest.json"
    path.with_name(manifest).write_bytes((character_data / manifest).read_bytes())
    return path


def test_a_network_is_distilled_from_four_where_labels_are_drawn(drawn_data: Path, tmp_path: Path) -> None:
    whole, broken = (TrainConfig(drawn_data, tmp_path / name, epochs=2, batch_size=64) for name in "ab")
    heard = Hears()
    train_character(whole, heard)
    assert [line for line in heard.said if line.startswith("teacher")] == [
        f"teacher {number} of 4" for number in (1, 2, 3, 4)
    ]
    assert not (whole.output_dir / "checkpoints" / "teachers").exists()
    # In the second of four teachers, who have 2 epochs of 270 examples, and in the student.
    for epochs in (3.5, 10):
        with pytest.raises(KeyboardInterrupt):
            train_character(replace(broken, resume=True), Stops(int(epochs * 270)))
        with pytest.raises(ToolkitError, match="add --resume to go on"):
            train_character(broken, Silent())
    train_character(replace(broken, resume=True), Silent())
    made = [(one.output_dir / WEIGHTS_FILE).read_bytes() for one in (whole, broken)]
    assert made[0] == made[1]


def test_teachers_expect_what_their_student_is_given(
    drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their mean, in place of the labels; each is another network."""
    examples = read_examples(drawn_data)
    seeds = []

    def untrained(model: SkipModel, own: Any, held_out: Any, config: TrainConfig, *rest: Any) -> None:
        seeds.append(config.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            model.heads.bias[examples.schema.places["action.valence"]] = float(len(seeds))

    monkeypatch.setattr(distillation, "train", untrained)
    whole = TrainConfig(drawn_data, tmp_path)
    soft, held_out = distillation.distilled(examples, examples, whole, tmp_path, Silent())
    assert len(set(seeds)) == 4
    assert soft.expected is not None
    assert (soft.labels == examples.labels).all()
    # Without a weight all rows are alike, and labels mend them to their own frequencies, which differ a
    # little between what teachers were trained without; 1, 2, 3 and 4 are 2.5.
    for key in ("action.type", "speech.occurs", "thought.dominant", "emotion.shift"):
        place = examples.schema.places[key]
        found = soft.expected[:, place]
        frequencies = np.broadcast_to(examples.labels[:, place].mean(axis=0), found.shape)
        assert found == pytest.approx(frequencies, abs=0.01)
    assert soft.expected[:, examples.schema.places["action.valence"]] == pytest.approx(2.5)
    assert held_out.expected == pytest.approx(soft.expected)


def test_a_finished_run_is_not_trained_again(character_data: Path, character_run: Path) -> None:
    before = (character_run / "run.json").read_bytes()
    result = train_character(config(character_data, character_run, resume=True), Silent())
    assert [entry["epoch"] for entry in result.history] == list(range(7))
    assert (character_run / "run.json").read_bytes() == before


def test_training_learns(character_run: Path) -> None:
    history = json.loads((character_run / "training_history.json").read_text())["epochs"]
    assert history[-1]["val_loss"] < 0.75 * history[0]["val_loss"]


def test_a_run_that_fails_before_it_begins_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a \.jsonl or a folder with examples\.jsonl"):
        train_character(config(tmp_path / "nothing", tmp_path / "run"), Silent())
    assert not (tmp_path / "run").exists()


def test_threads_are_given_back(character_data: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        train_character(config(character_data, tmp_path / "run"), Stops(10))
    assert torch.get_num_threads() == before


def test_a_damaged_run_is_refused(character_run: Path, tmp_path: Path) -> None:
    for file in ("run.json", WEIGHTS_FILE):
        (tmp_path / file).write_bytes((character_run / file).read_bytes())
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record | {"schema_sha256": "0" * 64}))
    with pytest.raises(MismatchError, match="its schema v2 must be"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record | {"temperatures": {"action.type": -1}}))
    with pytest.raises(DataError, match="must have a positive temperature for each of"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record | {"trainer": "personality"}))
    with pytest.raises(MismatchError, match="trainer must be character"):
        load_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(record))
    content = bytearray((tmp_path / WEIGHTS_FILE).read_bytes())
    content[-100] ^= 1
    (tmp_path / WEIGHTS_FILE).write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        load_run(tmp_path)


@pytest.fixture
def cheap_baselines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Boosting takes a minute: the majority stands in for it, and what was fitted is counted."""
    fitted: list[str] = []
    true = vars(evaluation)["predict_baseline"]

    def predict(name: Any, *rest: Any) -> Any:
        fitted.append(name)
        return true("majority", *rest)

    monkeypatch.setattr(evaluation, "predict_baseline", predict)
    return fitted


def test_evaluation_prints_baselines_and_ceiling_and_fits_them_once(
    character_run: Path, cheap_baselines: list[str]
) -> None:
    printed = [CliRunner().invoke(character, ["eval", str(character_run)]).stdout for _ in range(2)]
    assert printed[0] == printed[1]
    assert cheap_baselines == ["majority", "linear", "boosting"]
    for word in ("held-out cells", "unseen archetypes", "majority", "logistic", "boosting", "possible"):
        assert word in printed[0]
    found = json.loads(CliRunner().invoke(character, ["eval", str(character_run), "--json"]).output)
    ours = found["figures"]["held-out cells"]["model"]["action.type"]
    assert ours["expected_accuracy"] <= ours["ceiling"]
    assert found["sizes"]["unseen archetypes"] == 90


def test_evaluation_refuses_data_that_have_changed(
    character_run: Path, character_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(character_run)
    object.__setattr__(run, "split_fingerprint", "other")
    with pytest.raises(MismatchError, match="must be divided as in training"):
        evaluation.evaluate(run, None, Silent())
    object.__setattr__(run, "data_fingerprint", "other")
    with pytest.raises(DataError, match="holds other examples than the run was trained with"):
        evaluation.evaluate(run, None, Silent())


def test_predictions_of_a_description_and_of_features(
    character_run: Path, character_data: Path, tmp_path: Path
) -> None:
    line = json.loads((character_data / "examples.jsonl").read_text().splitlines()[0])
    (tmp_path / "in.jsonl").write_text(json.dumps({"name": "Mira", "features": line["features"]}))
    arguments = ["predict", str(character_run), "--input", str(tmp_path / "in.jsonl")]
    likeliest = json.loads(CliRunner().invoke(character, [*arguments, "--argmax"]).output)
    assert likeliest["name"] == "Mira"
    assert 0 < likeliest["action"]["p"] < 1
    drawn = {CliRunner().invoke(character, [*arguments, "--seed", str(seed)]).output for seed in range(8)}
    assert len(drawn) > 1
    block = CliRunner().invoke(character, [*arguments, "--prompt"]).output
    assert block.startswith("[Mira now]\ndoes: ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("3", "must be an object"),
        ('{"features": [1, 2]}', "features must be 453 numbers, is 2"),
        ('{"name": "Mira"}', "self_edge: must be there, is missing"),
        (
            json.dumps({"features": [0.0] * 7 + [float("nan")] + [0.0] * 445}),
            "features[7] must be finite, is nan",
        ),
        (json.dumps({"features": [1e39] + [0.0] * 452}), "features[0] must be finite, is 1e+39"),
        (json.dumps({"features": [10**400] + [0.0] * 452}), "features has a number beyond float32"),
    ],
)
def test_a_malformed_input_is_named_by_its_line(
    line: str, message: str, character_run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(f"\n{line}\n")
    result = CliRunner().invoke(character, ["predict", str(character_run), "--input", str(path)])
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith(f"{path}:2: ")
    assert message in str(result.exception)
