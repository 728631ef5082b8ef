"""Every command of the README and of docs/ is run, in order, as its reader would; or it says why not."""

import contextlib
import doctest
import functools
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked_workers import FORKING, Forked
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    *(
        f"docs/{name}.md"
        for name in (
            "pretrain", "evaluate", "export", "in-an-app", "parity", "simulate", "roll-out",
            "core-ml-on-linux", "extend", "on-the-device", "python", "character", "language-model-data",
            "language-model-training", "language-model-serving", "companion", "night",
            "companion-privacy", "companion-memory", "companion-week", "adapters", "capability", "expected",
        )
    ),
)  # fmt: skip
"""In an order in which each page finds what those before it made."""

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Step:
    """A command and the output that the page quotes."""

    where: str
    command: str
    quoted: tuple[str, ...]


def blocks(page: str, kind: str) -> Iterator[tuple[int, str | None, str]]:
    """Line, reason for not being run, and content of a page's fenced blocks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        if found["kind"] == kind:
            yield text.count("\n", 0, found.start()) + 1, found["reason"], found["body"]


def steps(page: str) -> list[Step]:
    """Commands begin with `$ `, and go on after a backslash or up to the end of a here-document."""
    result: list[Step] = []
    for line, reason, body in blocks(page, "console"):
        if reason:
            continue
        lines = body.splitlines()
        while lines:
            assert lines[0].startswith("$ "), f"{page}:{line}: a block begins with a command: {lines[0]}"
            command = [lines.pop(0)[2:]]
            while command[-1].endswith("\\"):
                command.append(lines.pop(0))
            if end := re.search(r"<<'(\w+)'$", command[-1]):
                command += [lines.pop(0)]
                while command[-1] != end[1]:
                    command.append(lines.pop(0))
            quoted = []
            while lines and not lines[0].startswith("$ "):
                quoted.append(lines.pop(0))
            result.append(Step(f"{page}:{line}", "\n".join(command), tuple(quoted)))
    return result


def missing(quoted: Sequence[str], output: str) -> str | None:
    """The first quoted line that the output lacks, in order; … stands for anything, alone for any lines."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    place = 0
    for quote in quoted:
        if quote.strip() == "…":
            continue
        parts = [re.escape(" ".join(part.split())) for part in quote.split("…")]
        pattern = re.compile(".*".join(parts))
        found = next((i for i in range(place, len(lines)) if pattern.fullmatch(lines[i])), None)
        if found is None:
            return quote
        place = found + 1
    return None


def examples(page: str) -> str:
    """What is wrong with the page's `pycon` blocks, run as one session."""
    text = "\n".join(body for _, _, body in blocks(page, "pycon"))
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    return "".join(said)


class Shell:
    """Runs the commands: `pt` in this process, which imports everything once; the rest in bash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tools = str(Path(sys.executable).parent)
        self.environment = os.environ | {"PATH": tools + os.pathsep + os.environ["PATH"]}

    def run(self, command: str) -> tuple[int, str]:
        """Exit code, and all that was printed."""
        words = shlex.split(command.replace("\\\n", " ")) if "<<" not in command else []
        path: list[str] = []
        if words and words[0] == "PYTHONPATH=.":
            path, words = [str(self.folder)], words[1:]
        given = ""
        if "|" in words:
            first, _, command = command.partition(" | ")
            given, words = self._bash(first)[1], shlex.split(command)
        if words and not {"|", "||", "&&", ";", ">", "<"} & set(words):
            if words[0] == "pt":
                return self._pt(words[1:], given, path)
            if words[0] == "python":
                return self._python(words[1:])
        return self._bash(command)

    def _bash(self, command: str) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _python(self, program: list[str]) -> tuple[int, str]:
        """In a process that has imported what this one has."""
        with tempfile.TemporaryFile() as log, contextlib.chdir(self.folder):
            code = Forked([sys.executable, *program], stdout=log, stderr=log, env=self.environment).wait()
            log.seek(0)
            return code, log.read().decode()

    def _pt(self, arguments: list[str], given: str, path: list[str]) -> tuple[int, str]:
        from personality_common.cli import main

        printed = io.StringIO()
        sys.path[:0] = path
        stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given.encode()))
        try:
            with (
                contextlib.chdir(self.folder),
                contextlib.redirect_stdout(printed),
                contextlib.redirect_stderr(printed),
                pytest.raises(SystemExit) as stop,
            ):
                main(arguments)
        finally:
            sys.stdin = stdin
            del sys.path[: len(path)]
        return int(stop.value.code or 0), printed.getvalue()


@pytest.fixture
def embeds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remember embeddings of MiniLM: every page embeds the same vocabulary and texts."""
    sentence = importlib.import_module("personality_common.text.sentence")
    encode = sentence.SentenceEncoder.encode
    known: dict[str, NDArray[np.float32]] = {}

    @functools.wraps(encode)
    def remembering(self: Any, texts: Sequence[str]) -> NDArray[np.float32]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, encode(self, new), strict=True))
        return np.stack([known[text] for text in texts]) if texts else encode(self, texts)

    monkeypatch.setattr(sentence.SentenceEncoder, "encode", remembering)


def test_every_command(tmp_path: Path, embeds_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    console = importlib.import_module("personality_common.terminal.console")
    monkeypatch.setattr(console.output, "width", 200)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("personality_common.runs.workers.subprocess", FORKING)
    (tmp_path / "fixtures").mkdir()
    for name in ("conversations", "labelled-train", "labelled-held-out"):
        shutil.copy(ROOT / "fixtures" / f"{name}.jsonl", tmp_path / "fixtures")
    shell = Shell(tmp_path)
    for page in PAGES:
        for step in steps(page):
            code, output = shell.run(step.command)
            said = f"{step.where}: $ {step.command}\n{output}"
            assert code == 0, f"exit code {code}\n{said}"
            lacks = missing(step.quoted, output)
            assert lacks is None, f"the output lacks the line {lacks!r}\n{said}"
        with contextlib.chdir(tmp_path):
            assert examples(page) == "", page
    manifest = json.loads((tmp_path / "bundles" / "first" / "manifest.json").read_text())
    golden = json.loads((tmp_path / "bundles" / "first" / "golden" / "golden.json").read_text())
    night = json.loads((tmp_path / "bundles" / "first" / manifest["golden_night"]).read_text())
    assert undescribed(manifest) | undescribed(golden) | undescribed(night) == set()


def undescribed(document: Any) -> set[str]:
    """Fields of a document that docs/on-the-device.md does not name; keys that are data are left out."""
    page = (ROOT / "docs" / "on-the-device.md").read_text(encoding="utf-8")
    data = {"versions", "files", "left_out", "arrays"}
    found: set[str] = set()

    def walk(value: Any, within: str) -> None:
        if isinstance(value, list):
            for item in value:
                walk(item, within)
        if isinstance(value, dict):
            if within not in data:
                found.update(value)
            for key, item in value.items():
                walk(item, key)

    walk(document, "")
    return {name for name in found if f"`{name}`" not in page and f"`update.{name}`" not in page}


def test_what_a_page_quotes_is_looked_for_in_order() -> None:
    output = "night   rise\n  1   +0.2\nparity holds\n"
    assert missing(["night … rise", "1 +0.2", "…", "parity holds"], output) is None
    assert missing(["…", "1 +…"], output) is None
    assert missing(["parity holds", "1 +0.2"], output) == "1 +0.2"
    assert missing(["parity"], output) == "parity"


def test_every_block_is_run_or_says_why_not() -> None:
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} == set(PAGES) - {"README.md"}
    run = {page: len(steps(page)) for page in PAGES}
    assert sum(run.values()) > 20
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert text.count("```") == 2 * len(_FENCE.findall(text)), f"{page}: a fence is not closed"
        for line, reason, body in blocks(page, "console"):
            assert reason is None or len(reason) > 10, f"{page}:{line}: say why it is not run"
            assert body.startswith("$ "), f"{page}:{line}: a console block begins with a command"
        for kind in ("sh", "bash", "shell", ""):
            assert not list(blocks(page, kind)), f"{page}: commands belong into console blocks"


def test_code_is_quoted_word_for_word() -> None:
    """Swift from device_sim/swift, Python from the packages or from what a page writes with cat."""
    sources = {
        "swift": "\n".join(
            path.read_text(encoding="utf-8")
            for path in (ROOT / "device_sim" / "swift" / "Sources").rglob("*.swift")
        ),
        "python": "\n".join(
            path.read_text(encoding="utf-8") for path in (ROOT / "device_sim" / "mil").rglob("*.py")
        ),
    }
    quoted = [
        (page, line, kind, body) for page in PAGES for kind in sources for line, _, body in blocks(page, kind)
    ]
    assert len(quoted) > 8
    for page, line, kind, body in quoted:
        assert body.strip("\n") in sources[kind], f"{page}:{line}: is not in the sources as it stands"


def readmes() -> list[str]:
    """Those beside the code."""
    packages = ("personality_common", "pretrain", "grpo", "device_sim")
    found = [path for package in packages for path in (ROOT / package).rglob("README.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def test_links_lead_somewhere() -> None:
    pages = [*PAGES, *readmes()]
    for page in pages:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https://)([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), f"{page}: {target} leads nowhere"
            if anchor:
                titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
                anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{page}: {target} has no such heading"


def test_no_sentence_is_there_twice() -> None:
    """Not among pages and the READMEs beside the code."""
    seen: dict[str, str] = {}
    pages = [*PAGES, *readmes()]
    for page in pages:
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
        for sentence in re.split(r"(?<=[.:;|])\s+|\n\n|\n\|", text):
            words = " ".join(sentence.split())
            if len(words) < 60:
                continue
            assert words not in seen, f"{page} says what {seen[words]} says: {words}"
            seen[words] = page


def test_the_table_of_the_tokenizer_is_what_the_code_does() -> None:
    """Where not: python tests/docs/device_golden.py."""
    import device_golden

    page = device_golden.PAGE.read_text(encoding="utf-8")
    assert device_golden.tokenizer_table() in page
    written = json.loads((device_golden.RESOURCES / "wordpiece.json").read_text(encoding="utf-8"))
    assert written == device_golden.tokenizer_cases()
    assert len(written) == len(device_golden.TEXTS) > 15


def test_the_worked_example_of_a_fingerprint() -> None:
    import hashlib

    from personality_common.files.fingerprint import fingerprint

    (example,) = (body for _, _, body in blocks("docs/on-the-device.md", "text") if "SHA-256" in body)
    rows = dict(re.findall(r"^(\S+) +(.+?)$", example, re.M))
    hashed = bytes.fromhex(re.sub(r"\s", "", example.split("hashed")[1].split("SHA-256")[0]))
    shape = [int(size) for size in rows["shape"].split(",")]
    array = np.array([float(v) for v in rows["values"].split()], rows["dtype"]).reshape(shape)
    assert fingerprint(array) == rows["SHA-256"] == hashlib.sha256(hashed).hexdigest()
    assert np.signbit(array).sum() == 2  # of -2 and of -0.0


def test_the_swift_package_is_no_part_of_the_python_package() -> None:
    import tomllib

    find = importlib.import_module("setuptools").find_namespace_packages
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    found = find(str(ROOT), settings.get("exclude", []), settings["include"])
    assert "device_sim.mil" in found
    assert [name for name in found if "swift" in name.lower()] == []
