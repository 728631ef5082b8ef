"""Exit codes mean the same in every command: 0, 1, 2, 3, 4 and 130, each really provoked."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from every_command import every_command

from personality_common.cli import cli, main
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.examples import EXAMPLES

ROOT = Path(__file__).parents[1]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def pt(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return run


COMMANDS = dict(every_command(cli))
NAMES = [" ".join(name) for name in COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_wrong_usage_is_2(name: str, pt: Run) -> None:
    code, out, err = pt(*name.split(), "--no-such-option")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1


READS = [
    " ".join(name) for name, command in COMMANDS.items()
    if any(isinstance(p.type, click.Path) and p.type.exists for p in command.params if p.required)
]  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_a_path_that_is_not_there_is_2(
    name: str, pt: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in its example, of which nothing is here."""
    monkeypatch.chdir(tmp_path)
    code, out, err = pt(*shlex.split(EXAMPLES[name])[1:])
    assert (code, out) == (2, ""), err
    assert "not exist" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 3),
        (MismatchError("x"), 3),
        (ToolkitError("x"), 4),
        (OSError(28, "x"), 4),
        (MemoryError(), 4),
        (KeyboardInterrupt(), 130),
        (click.exceptions.Exit(1), 1),
        (None, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_what_ends_a_command_is_the_same_in_all(
    error: BaseException | None, code: int, pt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(**_: Any) -> None:
        if error is not None:
            raise error

    for name, command in COMMANDS.items():
        with monkeypatch.context() as patch:
            patch.setattr(command, "callback", ends)
            # Required ones are not asked for: what is tried is how a command ends.
            for parameter in command.params:
                patch.setattr(parameter, "required", False)
            found, out, err = pt(*name)
        assert (found, out) == (code, ""), (name, err)
        # click ends the line on which ^C stands.
        assert len(err.split("\n")) - err.startswith("\n") == (1 if code in (0, 1) else 2), name


BAD: dict[str, str] = {
    # What reads a file or folder that is there, and is not what it must be.
    "pretrain": "--data BAD.jsonl --output-dir new",
    "predict": "BAD hi",
    "evaluate": "BAD --data BAD.jsonl",
    "export": "BAD --out new",
    "character train": "--data BAD --output-dir new",
    "character eval": "BAD",
    "character export": "BAD --out new",
    "character predict": "BAD --input BAD.jsonl",
    "lm data": "BAD.toml --out new",
    "lm tokenizer": "BAD --out new",
    "lm train": "BAD --tokenizer BAD --output-dir new",
    "lm eval": "BAD",
    "lm export": "BAD --out new",
    "lm call": "BAD.gguf hi --tools BAD.json",
    "parity": "BAD",
    "run": "BAD --input BAD.json --output new.json",
    "inspect": "BAD",
    "diff": "BAD BAD",
    "trace": "BAD --input BAD.json",
    "simulate": "BAD --user profile --data BAD.jsonl",
    "grpo": "BAD --feedback BAD.jsonl --out new",
    "feedback": "BAD --thumbs up",
    "memory audit": "BAD",
    "night report": "BAD",
    "adapters list": "BAD",
    "heads list": "BAD",
    "heads add": "new BAD.safetensors --bundle BAD",
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_3(name: str, pt: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "BAD").mkdir()
    (tmp_path / "BAD" / "manifest.json").write_text("{")
    for ending in ("jsonl", "json", "toml", "gguf", "safetensors"):
        (tmp_path / f"BAD.{ending}").write_text("{")
    code, out, err = pt(*name.split(), *BAD[name].split())
    assert (code, out) == (3, ""), err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    assert not (tmp_path / "new").exists()


def test_a_verdict_that_fails_is_1(openai_bundle: Path, tmp_path: Path, pt: Run) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(openai_bundle, spoilt)
    weights = spoilt / "PersonalityModel.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 0xFF
    weights.write_bytes(data)
    model = openai_bundle / "PersonalityModel.mlpackage"
    for good, bad in (
        (("diff", model, model), ("diff", model, spoilt / model.name)),
        (("inspect", openai_bundle), ("inspect", spoilt)),
    ):
        assert pt(*good)[0] == 0
        assert pt(*bad)[0] == 1
    code, out, _ = pt("parity", spoilt, "--runtimes", "mil", "--json")
    assert code == 1
    for check in json.loads(out)["checks"]:
        assert isinstance(check["id"], str)
        assert all(isinstance(check[key], int | float | None) for key in ("measured", "limit"))


def test_the_readme_has_them_all() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("Every command exits with")[1].split("\n\n")[1]
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "0", "1", "2", "3", "4", "130, 143, 129",
    ]  # fmt: skip
