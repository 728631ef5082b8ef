"""`pretrain` as a library, with an encoder that stands in for MiniLM: what it writes, resumes and refuses."""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import pretrain.personality.pipeline as pipeline
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.atomic import write_json
from personality_common.runs import folder
from personality_common.runs.checkpoints import Checkpoint, Checkpoints
from personality_common.terminal.progress import SILENT, Silent
from personality_common.text.sentence import MINILM_SHA256
from pretrain.data.conversations import DataConfig
from pretrain.data.split import is_validation
from pretrain.personality.config import PretrainConfig
from pretrain.personality.run import load_run
from pretrain.personality.targets import Quality

RequireTracked = Callable[[Path, str, Sequence[Mapping[str, Any]]], None]
TEXTS = [f"sentence number {i}" for i in range(120)]


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)


def config_in(folder: Path) -> PretrainConfig:
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return PretrainConfig(
        DataConfig(str(data)), folder / "run", epochs=3, batch_size=32, val_fraction=0.2, device="cpu"
    )


@pytest.fixture
def config(tmp_path: Path, hash_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> PretrainConfig:
    monkeypatch.setattr(pipeline, "load_encoder", lambda *_: hash_encoder())
    return config_in(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, hash_encoder: Any) -> Path:
    """A run that nothing disturbed; beside it, in `stopped`, one whose results were not written."""
    config = config_in(tmp_path_factory.mktemp("whole"))
    write_results = pipeline._write_results

    def kept(*arguments: Any) -> dict[str, Any]:
        shutil.copytree(config.output_dir, config.output_dir.with_name("stopped"))
        return write_results(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load_encoder", lambda *_: hash_encoder())
        patch.setattr(pipeline, "_write_results", kept)
        pipeline.pretrain(config, SILENT)
    return config.output_dir


@pytest.fixture
def finished(config: PretrainConfig, whole: Path) -> PretrainConfig:
    """The config, whose run is there."""
    shutil.copytree(whole, config.output_dir)
    return config


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.safetensors")}


def test_run_holds_what_the_readme_says(config: PretrainConfig) -> None:
    result = pipeline.pretrain(dataclasses.replace(config, keep_checkpoints=1), SILENT)
    run = load_run(config.output_dir)
    assert result.embedded == 325 + 120
    names = {path.name for path in config.output_dir.iterdir()}
    assert names == {
        ".lock",
        "MODEL_CARD.md",
        "cache",
        "checkpoints",
        "embedding_projector_weights.safetensors",
        "learning_curve.png",
        "personality-tokens.json",
        "personality_model_weights.safetensors",
        "reference_texts.safetensors",
        "run.json",
        "training_history.json",
    }
    checkpoints = sorted((config.output_dir / "checkpoints").iterdir())
    kept = {int(p.name.split("_")[1]) for p in checkpoints}
    assert 3 in kept
    assert len(kept) <= 2, "the last, and the best"
    assert len(checkpoints) == 2 * len(kept)
    last = load_file(
        next(p for p in checkpoints if p.name.startswith("epoch_3_valloss_0.") and "state" not in p.name)
    )
    deployed = load_file(config.output_dir / "personality_model_weights.safetensors")
    assert all(np.array_equal(deployed[name], last[f"model.{name}"]) for name in deployed)
    assert set(deployed) == set(run.model.state_dict())

    held_out = [text for text in TEXTS if is_validation(text, 0.2)]
    assert run.record.content["data"]["val_texts"] == len(held_out) > 0
    assert run.record.content["data"]["train_texts"] == 120 - len(held_out)
    assert [entry["epoch"] for entry in result.history] == [0, 1, 2, 3]
    assert run.record.content["quality"] == result.history[-1]
    assert (config.output_dir / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_model_card_says_what_was_made_and_names_no_place(whole: Path) -> None:
    run, card = load_run(whole), (whole / "MODEL_CARD.md").read_text()
    data, quality = run.record.content["data"], run.record.content["quality"]
    assert f"| run | {run.fingerprint}, finished {run.record.finished} |" in card
    assert (
        f"{data['train_texts']} and {data['val_texts']} held out, fingerprint {data['fingerprint']}" in card
    )
    assert f"| loss, on held-out texts | {quality['val_loss']:.6g} |" in card
    assert "`pt pretrain --data DATA --output-dir RUN --batch-size 32 --val-fraction 0.2`" in card
    assert not any(
        private in card for private in ("data.jsonl", str(whole), whole.parent.name, "sentence number")
    )


def test_the_command_of_a_card_can_be_typed() -> None:
    from pretrain.personality.model_card import command

    data = DataConfig(("/home/me/a", "b"), max_samples=None, skip_bad_records=True)
    config = PretrainConfig(
        data,
        Path("/home/me/r"),
        Path("/home/me/t.json"),
        "/home/me/encoder",
        lr=0.5,
        token_template="I am {}",
    )
    assert command(config) == (
        "pt pretrain --data DATA --output-dir RUN --max-samples none --skip-bad-records --tokens TOKENS "
        "--encoder ENCODER --lr 0.5 --token-template 'I am {}'"
    )


@pytest.mark.parametrize(
    ("name", "written", "said"),
    [
        ("README.md", "---\nlicense: mit\n---\n# A model\n", "mit, says the model card that came with it"),
        ("README.md", "# A model\nlicense: mit\n", "nothing in its folder says which"),
        ("other", "", "nothing in its folder says which"),
        (None, None, "the encoder is hosted"),
    ],
)
def test_whose_the_encoder_is(tmp_path: Path, name: str | None, written: str | None, said: str) -> None:
    from personality_common.text.identity import EncoderIdentity
    from pretrain.personality.model_card import encoder_licence

    if name and written is not None:
        (tmp_path / name).write_text(written)
    identity = EncoderIdentity("theirs", "", "0" * 64, "mean", 256, 384)
    assert encoder_licence(identity, tmp_path if name else None).startswith(said)
    minilm = dataclasses.replace(identity, weights_sha256=MINILM_SHA256)
    assert encoder_licence(minilm, None).startswith("Apache License, Version 2.0")


def test_same_seed_same_bits_other_seed_other_bits(
    config: PretrainConfig, whole: Path, tmp_path: Path
) -> None:
    pipeline.pretrain(config, SILENT)
    assert weights(config.output_dir) == weights(whole)
    other = dataclasses.replace(config, output_dir=tmp_path / "other", seed=1)
    pipeline.pretrain(other, SILENT)
    assert weights(other.output_dir) != weights(whole)


def test_second_run_embeds_nothing_and_replaces_the_first(finished: PretrainConfig) -> None:
    before = weights(finished.output_dir)
    again = pipeline.pretrain(dataclasses.replace(finished, seed=5, overwrite=True), SILENT)
    assert again.embedded == 0
    assert weights(finished.output_dir) != before
    assert load_run(finished.output_dir).record.content["config"]["seed"] == 5


@pytest.mark.parametrize("stop", [1, 2])
def test_resume_gives_the_same_bits(
    config: PretrainConfig, whole: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    save = Checkpoints.save

    def save_and_die(self: Checkpoints, checkpoint: Checkpoint, *rest: Any) -> None:
        save(self, checkpoint, *rest)
        if checkpoint.position == {"epoch": stop}:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", save_and_die)
        pipeline.pretrain(config, SILENT)
    with pytest.raises(ToolkitError, match="--resume"):
        pipeline.pretrain(config, SILENT)
    with pytest.raises(MismatchError, match="batch_size is 32 there, 16 here"):
        pipeline.pretrain(dataclasses.replace(config, resume=True, batch_size=16), SILENT)
    listener = Listener()
    resumed = dataclasses.replace(config, resume=True)
    pipeline.pretrain(resumed, listener)
    assert f"resuming after epoch {stop} of 3" in listener.said
    assert weights(config.output_dir) == weights(whole)
    # A restarted job that finds everything done ends at once.
    pipeline.pretrain(resumed, listener)
    assert "finished already" in listener.said[-1]


def test_tensorboard_has_each_epoch_once_after_a_kill(
    config: PretrainConfig, require_tracked: RequireTracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = dataclasses.replace(config, epochs=2, resume=True, track="tensorboard")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "_write_results", _interrupted)
        pipeline.pretrain(dataclasses.replace(tracked, epochs=1), SILENT)
    history = pipeline.pretrain(tracked, SILENT).history
    require_tracked(config.output_dir, "epoch", history)
    assert "learning_rate" in history[-1]
    # Asked for once all is done, it is written too.
    shutil.rmtree(config.output_dir / "tensorboard")
    pipeline.pretrain(tracked, SILENT)
    require_tracked(config.output_dir, "epoch", history)


def test_a_tracker_that_is_missing_stops_the_run_before_any_work(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ToolkitError, match=r"pip install 'personality-toolkit\[tensorboard\]'"):
        pipeline.pretrain(dataclasses.replace(config, track="tensorboard"), SILENT)
    assert not config.output_dir.exists()


def test_a_finished_run_is_trained_for_more_epochs(
    finished: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, before = finished.output_dir, weights(finished.output_dir)
    longer = dataclasses.replace(finished, resume=True, epochs=5)
    with pytest.raises(MismatchError, match="--epochs must be 3 or more to go on, is 2"):
        pipeline.pretrain(dataclasses.replace(longer, epochs=2), SILENT)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pipeline, "_write_results", _interrupted)
        pipeline.pretrain(longer, SILENT)
    assert weights(run) == before  # until the longer one is whole
    listener = Listener()
    history = pipeline.pretrain(longer, listener).history
    assert [entry["epoch"] for entry in history] == [0, 1, 2, 3, 4, 5]
    old = load_run(run).record.content
    assert old["plan"]["epochs"] == 5
    assert old["plan"]["resumed_with"] == [{"epochs": 5}]
    first = json.loads((run / "training_history.json").read_text())["epochs"][:4]
    assert history[:4] == first
    pipeline.pretrain(longer, listener)
    assert "finished already" in listener.said[-1]
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(ToolkitError, match="must have a checkpoint to go on with epochs"):
        pipeline.pretrain(dataclasses.replace(longer, epochs=6), SILENT)


def test_a_longer_run_says_that_it_goes_on(finished: PretrainConfig) -> None:
    listener = Listener()
    pipeline.pretrain(dataclasses.replace(finished, resume=True, epochs=4), listener)
    assert "resuming after epoch 3 of 4" in listener.said
    assert any("going on with epochs 4 (was 3)" in warning for warning in listener.warned)


def _interrupted(*_: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("victim", ["epoch_3_*[0-9].safetensors", "epoch_3_*.state.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damaged_checkpoint_is_named_and_not_used(
    config: PretrainConfig, whole: Path, victim: str, damage: str
) -> None:
    shutil.copytree(whole.with_name("stopped"), config.output_dir)
    path = next((config.output_dir / "in-progress" / "checkpoints").glob(victim))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    listener = Listener()
    pipeline.pretrain(dataclasses.replace(config, resume=True), listener)
    assert len(listener.warned) == 1
    assert path.name in listener.warned[0]
    assert "resuming after epoch 2 of 3" in listener.said
    assert weights(config.output_dir) == weights(whole)


def test_damaged_run_is_refused(finished: PretrainConfig) -> None:
    victim = finished.output_dir / "personality_model_weights.safetensors"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=r"personality_model_weights.safetensors: damaged"):
        load_run(finished.output_dir)
    victim.write_bytes(whole)
    tokens = finished.output_dir / "personality-tokens.json"
    swapped = json.loads(tokens.read_text())["tokens"]
    swapped[0], swapped[1] = swapped[1], swapped[0]
    tokens.write_text(json.dumps({"tokens": swapped}))
    with pytest.raises(MismatchError, match="vocabulary"):
        load_run(finished.output_dir)


def test_weights_of_another_run_are_refused(finished: PretrainConfig, tmp_path: Path) -> None:
    other = dataclasses.replace(finished, output_dir=tmp_path / "other", seed=1, epochs=1)
    pipeline.pretrain(other, SILENT)
    name = "personality_model_weights.safetensors"
    (finished.output_dir / name).write_bytes((other.output_dir / name).read_bytes())
    with pytest.raises(MismatchError, match=r"must be the weights that run\.json names"):
        load_run(finished.output_dir)


def test_kill_while_publishing_is_completed_by_the_next_command_that_writes(
    finished: PretrainConfig,
) -> None:
    expected = weights(finished.output_dir)
    # As a kill leaves it: run.json and some files still wait below.
    work = finished.output_dir / "in-progress"
    work.mkdir()
    for name in ("run.json", "personality_model_weights.safetensors", "checkpoints"):
        (finished.output_dir / name).rename(work / name)
    with pytest.raises(DataError, match="is finished and not yet wholly in place"):
        load_run(finished.output_dir)
    assert work.exists()
    pipeline.pretrain(dataclasses.replace(finished, resume=True), SILENT)
    assert weights(finished.output_dir) == expected
    load_run(finished.output_dir)
    assert not work.exists()


def test_failure_leaves_the_run_before_it(finished: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = weights(finished.output_dir)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pipeline, "draw_learning_curve", full)
    with pytest.raises(OSError, match="No space left"):
        pipeline.pretrain(dataclasses.replace(finished, seed=9, overwrite=True), SILENT)
    assert weights(finished.output_dir) == before
    assert load_run(finished.output_dir).record.content["config"]["seed"] == 0


def test_failure_in_the_last_write_loses_no_epoch(
    config: PretrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = write_json

    def full(path: Path, value: Any) -> None:
        if path.name == "run.json":
            raise OSError(28, "No space left on device")
        write(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_json", full)
        with pytest.raises(OSError, match="No space left"):
            pipeline.pretrain(config, SILENT)
    listener = Listener()
    pipeline.pretrain(dataclasses.replace(config, resume=True), listener)
    assert "resuming after epoch 3 of 3" in listener.said
    load_run(config.output_dir)


def test_nothing_is_done_when_a_record_is_bad(config: PretrainConfig) -> None:
    path = Path(config.data.name)
    path.write_text(path.read_text() + '{"text": 3}\n')
    with pytest.raises(DataError, match=r"data\.jsonl:121"):
        pipeline.pretrain(config, SILENT)
    assert not config.output_dir.exists()
    skipping = dataclasses.replace(config, data=dataclasses.replace(config.data, skip_bad_records=True))
    listener = Listener()
    pipeline.pretrain(skipping, listener)
    assert load_run(config.output_dir).record.content["data"]["bad_records"] == 1
    assert any("skipped 1 malformed" in line for line in listener.warned)


def test_too_few_texts_are_refused(config: PretrainConfig) -> None:
    Path(config.data.name).write_text('{"text": "one"}\n')
    with pytest.raises(DataError, match=r"1 for training and 0 for|0 for training and 1 for"):
        pipeline.pretrain(config, SILENT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"val_fraction": 0.0},
        {"val_fraction": 1.0},
        {"seed": -1},
        {"device": "tpu"},
        {"start": "warm"},
    ],
)
def test_config_names_the_flag(wrong: dict[str, Any]) -> None:
    flag = "--" + next(iter(wrong)).replace("_", "-")
    with pytest.raises(ConfigError, match=flag):
        PretrainConfig(DataConfig("x"), Path("run"), **wrong)


def test_a_step_that_explodes_is_an_error(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    import pretrain.personality.training as training

    def poisoned(*arguments: Any) -> torch.Tensor:
        return arguments[0] @ arguments[1].T * float("nan")

    monkeypatch.setattr(training, "soft_targets", poisoned)
    monkeypatch.setattr(training, "evaluate", lambda *_: Quality(1.0, 1.0, 0.0, 0.0, 0.0))
    with pytest.raises(ToolkitError, match="loss must stay finite"):
        pipeline.pretrain(config, SILENT)


def test_runs_share_a_cache(config: PretrainConfig, tmp_path: Path) -> None:
    shared = dataclasses.replace(config, cache_dir=tmp_path / "shared", epochs=1)
    assert pipeline.pretrain(shared, SILENT).embedded == 325 + 120
    other = dataclasses.replace(shared, output_dir=tmp_path / "other")
    assert pipeline.pretrain(other, SILENT).embedded == 0
    assert not (other.output_dir / "cache").exists()
