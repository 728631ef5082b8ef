"""No character of a file reaches the terminal that it would obey, and no error quotes much of one."""

import ast
import copy
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from device_sim.fleet.plan import read_plan
from device_sim.heads.heads import open_heads
from grpo.feedback import read_feedback
from personality_common.bundle.bundle import open_bundle
from personality_common.errors import DataError, ToolkitError
from personality_common.inspection.reading import inspect_path
from personality_common.runs.record import Record
from personality_common.terminal.console import ConsoleReporter, TerminalConsole
from personality_common.vocabulary import load_vocabulary
from pretrain.personality.prediction import Prediction
from pretrain.personality.rendering import prediction_table
from pretrain.personality.rules.family import PERSONALITY
from pretrain.personality.run import load_run

ROOT = Path(__file__).parents[2]
EVIL = "a\x1b[31mred\x1b]8;;http://x\x07b\x9bc\u202egnp.exe\u2066\ud800\x00d"
KEPT = "grüße می\u200cخواهم 👩\u200d🚀 [bold]x[/] [link=http://x]y[/link] :smile:"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
PACKAGES = ("personality_common", "pretrain", "grpo", "device_sim")
Pt = Callable[..., Any]


def printed(show: Callable[[TerminalConsole], object]) -> str:
    console = TerminalConsole(width=400)
    console.file = io.StringIO()
    show(console)
    return console.file.getvalue()


def table(text: str) -> Table:
    made = Table(text, title=text)
    made.add_row(text)
    made.add_row(Text(text))
    return made


@pytest.mark.parametrize(
    "show",
    [
        lambda console, text: console.print(text),
        lambda console, text: console.print(text, soft_wrap=True, style="bold"),
        lambda console, text: console.print(Text(text), Panel(text, title=text)),
        lambda console, text: console.print(table(text)),
        lambda console, text: console.print(prediction_table([Prediction(text, (text,), (0.5,))])),
        lambda console, text: console.rule(text),
    ],
    ids=["text", "unwrapped", "panel", "table", "predictions", "rule"],
)
def test_text_is_printed_as_text(show: Callable[[TerminalConsole, str], object]) -> None:
    assert not OBEYED.search(printed(lambda console: show(console, EVIL)))
    shown = printed(lambda console: show(console, KEPT))
    assert KEPT in shown or KEPT.replace(" ", "\u00a0") in shown


def test_what_a_job_says_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = ConsoleReporter()
    reporter.say(EVIL)
    reporter.warn(KEPT)
    with reporter.stage(EVIL, 1, EVIL) as stage:
        stage.advance(1, {EVIL: EVIL})
    said = capsys.readouterr().err
    assert not OBEYED.search(said)
    assert f"warning: {KEPT}" in said
    assert said.count("a\ufffd[31mred") == 5


def test_an_error_is_one_line_of_text(pt: Pt, tmp_path: Path) -> None:
    said = pt("inspect", tmp_path, EVIL.replace("\0", "") + "\n" + KEPT)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert not OBEYED.search(said.err)
    folder = tmp_path / EVIL.replace("\0", "").replace("/", "").replace("\ud800", "\udcff")
    folder.mkdir()
    said = pt("predict", folder, "hi")
    assert said.code == 3
    assert "holds no finished run" in said.err
    assert not OBEYED.search(said.err)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_everything_is_printed_in_one_place() -> None:
    """`TerminalConsole`; JSON, which is ASCII; and the lines of `pt` itself, which are excerpts."""
    allowed = {
        "personality_common/terminal/console.py": {"Console"},
        "personality_common/cli.py": {"click.echo"},
        # Into a log, of the worker's own.
        "device_sim/fleet/worker.py": {"print"},
    }
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            for function, call in calls(ast.parse(path.read_text())):
                keywords = [keyword.arg for keyword in call.keywords]
                if name.endswith("cli.py") and "ensure_ascii" in keywords:
                    found.append(f"{name}: {ast.unparse(call)}")
                if function in ("click.echo", "click.secho"):
                    if call.args and re.match(r"(json\.dumps|to_json)\(", ast.unparse(call.args[0])):
                        continue
                elif function not in ("Console", "print", "sys.stdout.write", "sys.stderr.write"):
                    continue
                if function not in allowed.get(name, ()):
                    found.append(f"{name}: {ast.unparse(call)}")
    assert found == []


LONG = "Q" * 100_000


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all leaves and keys, one of each kind: entries of long lists and objects are all the same."""
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, item in items if len(items) <= 14 else items[:2]:
            yield from places(item, (*at, key))
    yield at


def mutants(document: Any) -> Iterator[Any]:
    for place in places(document):
        for spoil in (LONG, {LONG: [LONG]}):
            if not place:
                if isinstance(spoil, dict):
                    yield spoil
                continue
            mutant = copy.deepcopy(document)
            inner = mutant
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = spoil
            yield mutant


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "run": ("run/run.json", lambda shelf: load_run(shelf / "run")),
    "vocabulary": (
        "run/personality-tokens.json",
        lambda shelf: load_vocabulary(shelf / "run/personality-tokens.json"),
    ),
    "bundle": ("bundle/manifest.json", lambda shelf: opened(shelf / "bundle")),
    "golden": ("bundle/golden/golden.json", lambda shelf: opened(shelf / "bundle").golden),
    "package": (
        "bundle/PersonalityModel.mlpackage/Manifest.json",
        lambda shelf: inspect_path(shelf / "bundle/PersonalityModel.mlpackage"),
    ),
    "store": ("store/store.json", lambda shelf: open_heads(shelf / "store").versions()),
    "plan": ("fleet/plan.json", lambda shelf: read_plan(shelf / "fleet")),
    "feedback": (
        "feedback.jsonl",
        lambda shelf: read_feedback(shelf / "feedback.jsonl", load_vocabulary().tokens),
    ),
}


def opened(path: Path) -> Any:
    from personality_common.bundle.bundle import verify

    return verify(open_bundle(path, PERSONALITY))


@pytest.mark.parametrize("name", READERS)
def test_no_error_quotes_more_than_200_characters(
    received: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing more is quoted there, and it takes a second.
    monkeypatch.setattr(Record, "load_into", lambda *_: None)
    file, read = READERS[name]
    path = received / file
    if name == "plan":
        path.parent.mkdir()
        write_a_plan(received)
    document = json.loads(path.read_text().splitlines()[0] if path.suffix == ".jsonl" else path.read_text())
    refused = 0
    for mutant in mutants(document):
        path.write_text(json.dumps(mutant))
        try:
            read(received)
        except ToolkitError as error:
            refused += 1
            message = str(error).replace(str(received), "")
            longest = max(map(len, re.findall("Q+", message)), default=0)
            assert longest <= 200, message[:400]
            assert len(message) < 2000, message[:400]
            assert "\n" not in message
    assert refused >= 4


def write_a_plan(shelf: Path) -> None:
    from dataclasses import asdict

    from device_sim.users.nights import NightsConfig
    from grpo.config import GRPOConfig

    document = {
        "schema": 1, "bundle": "b", "bundle_sha256": "0", "data": "d", "texts_sha256": "0", "run": None,
        "devices": 3, "user": "profile", "nights": asdict(NightsConfig()), "grpo": asdict(GRPOConfig()),
        "chunk": 64,
    }  # fmt: skip
    (shelf / "fleet" / "plan.json").write_text(json.dumps(document))


def test_a_quotation_is_cut_where_it_is_one() -> None:
    said = str(DataError(f"/a/b's file: {'x' * 300!r} is not {['y' * 500, 'it']!r}, the bundle's own is"))
    assert said.startswith("/a/b's file: 'xxx")
    assert "… (300 characters)' is not ['yyy" in said
    assert said.endswith("… (500 characters)', 'it'], the bundle's own is")
    assert str(DataError("it's short and the run's own")) == "it's short and the run's own"
