"""What `pt` promises to scripts: exit codes, one line per error, nothing but JSON on stdout."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import warm
from every_command import every_command
from json_results import followed

from personality_common.cli import LazyGroup, cli, main

FIXTURE = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"

PREDICTIONS = "pretrain/personality/predictions"


def pt(*arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run([*warm.PT, *arguments])


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], *([name, "--help"] for name in ("pretrain", "predict", "parity", "run"))],
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['pt', *sys.argv[1:]]\n"
        "from personality_common.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "heavy = {'torch', 'coremltools', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("group", [[], ["lm"], ["heads"]])
def test_a_group_alone_shows_its_help(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(group)
    assert stop.value.code == 2
    assert "Commands:" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["pretrian"], 2, "No such command 'pretrian'. Did you mean 'pretrain'?"),
        (["heads", "lsit"], 2, "No such command 'lsit'. Did you mean 'list'?"),
        (["pretrain"], 2, "Missing option '--data'"),
        (["pretrain", "--data", "x", "--output-dir", "y", "--epochs", "three"], 2, "'three' is not a valid"),
        (["pretrain", "--data", "x", "--output-dir", "y", "--epochs", "0"], 2, "--epochs must be 1 or more"),
        (["pretrain", "--data", "x", "--output-dir", "y", "--unit", "word"], 2, "--unit"),
        (["pretrain", "--data", "no/such.jsonl", "--output-dir", "{tmp}/run"], 2, "no/such.jsonl"),
        (
            ["pretrain", "--data", "{tmp}", "--output-dir", "{tmp}/run", "--tokens", "{tmp}/t"],
            2,
            "/t' does not",
        ),
        (
            ["pretrain", "--data", "{tmp}", "--output-dir", "{tmp}/run", "--encoder", "minlim"],
            2,
            "there is no folder 'minlim'; did you mean minilm?",
        ),
        (["predict", "{tmp}/nothing", "hi"], 2, "nothing' does not exist"),
        (["predict", "{tmp}", "hi"], 3, "holds no finished run"),
        (["predict", "{tmp}"], 2, "no text"),
    ],
)
def test_errors_are_one_line(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    done = pt(*[argument.format(tmp=tmp_path) for argument in arguments])
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


WRITTEN = {
    "out", "output", "output_dir", "cache_dir", "state_out", "save_config", "html", "json", "junit", "export",
    "store of chat", "store of serve", "store of import", "store of add",
}  # fmt: skip


def test_a_path_that_a_command_reads_must_be_there() -> None:
    """Exit code 2, before any work; those that are written need not be."""
    read = {
        (*words, str(parameter.name)): parameter.type.exists
        for words, command in every_command(cli)
        for parameter in command.params
        if isinstance(parameter.type, click.Path)
        and not {str(parameter.name), f"{parameter.name} of {words[-1]}"} & WRITTEN
    }
    assert len(read) > 20
    assert [name for name, exists in read.items() if not exists] == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for arguments in (["--debug", "predict"], ["predict", "--debug"]):
        done = pt(*arguments, str(tmp_path), "hi")
        assert done.returncode == 1  # Python's own
        assert "Traceback" in done.stderr
        assert "holds no finished run" in done.stderr


def _deeper(depth: int = 0) -> int:
    return _deeper(depth + 1)


def _allocate() -> Any:
    return np.empty(1 << 57)  # more than an address has bits for


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (_allocate, "error: out of memory: Unable to allocate 1.00 EiB for an array with shape "),
        (lambda: bytes(1 << 60), "error: out of memory"),
        (_deeper, "error: nested too deeply: maximum recursion depth exceeded"),
    ],
)
def test_what_the_machine_lacks_is_one_line(
    command: Callable[[], Any], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: click.Command("predict", callback=command))
    with pytest.raises(SystemExit) as end:
        main(["predict"])
    assert end.value.code == 4
    said = capsys.readouterr().err
    assert said.startswith(says)
    assert len(said.splitlines()) == 1
    with pytest.raises((MemoryError, RecursionError)):
        main(["predict", "--debug"])


def test_pretrain_and_predict_with_the_real_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("".join(FIXTURE.read_text().splitlines(keepends=True)[:60]))
    run = tmp_path / "run"
    trained = pt("pretrain", "--data", str(data), "--output-dir", str(run), "--epochs", "1", "--json")
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert result["run"] == str(run)
    # The start is at the teacher, so one epoch on few texts must not lose the ranking.
    assert result["quality"]["val_top5_recall"] > 0.95
    assert "epoch 1/1" in trained.stderr

    texts = ["What a lovely, cheerful morning!", "I am furious with you."]
    predicted = pt("predict", str(run), *texts, "--json", "--top-k", "20")
    assert predicted.returncode == 0, predicted.stderr
    from_arguments = followed(predicted.stdout, PREDICTIONS)["predictions"]
    assert [entry["text"] for entry in from_arguments] == texts
    assert all(len(entry["tokens"]) == len(entry["probabilities"]) == 20 for entry in from_arguments)
    # What MiniLM itself finds close: words that appear in the text.
    assert "cheerful" in from_arguments[0]["tokens"][:3]
    assert from_arguments[0]["probabilities"] == sorted(from_arguments[0]["probabilities"], reverse=True)

    lines = io.BytesIO("\n".join([texts[0], "", texts[1]]).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines))
    with pytest.raises(SystemExit) as end:
        main(["predict", str(run), "--json", "--top-k", "20"])
    assert not end.value.code
    blank = {"text": "", "tokens": [], "probabilities": []}
    again = followed(capsys.readouterr().out, PREDICTIONS)["predictions"]
    assert again == [from_arguments[0], blank, from_arguments[1]]
    head = tmp_path / "head.safetensors"
    head_of_one_token(run, head)
    long = "and so on " * 100
    with pytest.raises(SystemExit) as end:
        main(["predict", str(run), texts[0], long, "--json-lines", "--head", str(head)])
    assert not end.value.code
    said = capsys.readouterr()
    lines_out = [json.loads(line) for line in said.out.splitlines()]
    vocabulary = json.loads((run / "personality-tokens.json").read_text())["tokens"]
    assert [line["tokens"][0] for line in lines_out] == [vocabulary[7]] * 2
    assert "1 of 2 texts reach the encoder's 256 tokens, the first is text 2" in said.err
    with pytest.raises(SystemExit) as end:
        main(["predict", str(run), "hi", "--top-k", "326"])
    assert end.value.code == 2
    assert "--top-k must be between 1 and 325" in capsys.readouterr().err


def head_of_one_token(run: Path, path: Path) -> None:
    """A head file of this run, which says its eighth token of every text."""
    import torch

    from personality_common.files.tensors import save_tensors
    from pretrain.personality.head_file import head_metadata
    from pretrain.personality.run import load_run

    opened = load_run(run)
    bias = torch.zeros(325)
    bias[7] = 1
    belongs = head_metadata(opened.fingerprint, opened.vocabulary.fingerprint)
    save_tensors(path, {"projection.weight": torch.zeros(325, 512), "output_bias": bias}, belongs)
