"""Tasks: a prompt, how long the answer may be, and rules that score it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Final

from device_sim.capability.rules import Rules
from personality_common.errors import DataError
from personality_common.files.bounded import read_bounded
from personality_common.files.typed import from_json
from personality_common.printable import excerpt

MOST_BYTES: Final = 4 << 20
MOST_TASKS: Final = 5_000
MOST_TOKENS: Final = 1_024
_HEADER: Final = re.compile(rb"^[ \t]*\[\[[ \t]*tasks[ \t]*\]\]", re.M)


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        id: unique in its suite: `facts.capital-of-france`; what is before the first point is the domain.
        prompt: what the user says.
        rules: score the answer.
        max_tokens: of the answer.
        system: of the prompt; None: what the model's template says.
        tags: for whoever groups otherwise.
        asks: what of its user it asks for, as facts are named that a night makes: "home".
        right: answers that score 1, for the suite's own test.
    """

    id: str
    prompt: str
    rules: Rules
    max_tokens: int = 24
    system: str | None = None
    tags: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()
    right: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9-]{1,40}\.[a-z0-9.-]{1,80}", self.id):
            raise DataError(f"id must be domain.name in small letters, digits and -, got {self.id!r:.80}")
        if not self.prompt.strip():
            raise DataError("prompt must not be empty")
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise DataError(f"max_tokens must be 1 to {MOST_TOKENS}, got {self.max_tokens}")
        for answer in self.right:
            if self.rules.score(answer) != 1:
                raise DataError(
                    f"right must hold answers that its rules accept, they refuse {excerpt(answer, 60)!r}"
                )

    @property
    def domain(self) -> str:
        return self.id.partition(".")[0]


@dataclass(frozen=True)
class Suite:
    """Tasks that are reported together.

    Attributes:
        name: for the report.
        fingerprint: SHA-256 of the file; "" where there is none.
    """

    name: str
    tasks: tuple[Task, ...]
    fingerprint: str = ""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for task in self.tasks:
            if task.id in seen:
                raise DataError(f"id must be unique, {task.id!r} is there twice")
            seen.add(task.id)


@cache
def default_suite() -> Suite:
    """The toolkit's own, of nine domains."""
    return read_suite(Path(__file__).with_name("suite.toml"))


@cache
def probes() -> Suite:
    """What a night should not change: domains `style` and `safety`."""
    return read_suite(Path(__file__).with_name("probes.toml"))


def read_suite(path: Path) -> Suite:
    """A suite as TOML: `[[tasks]]` with `id`, `prompt`, rules, and `context`, a text of `[contexts]`.

    Raises:
        DataError: it is not one; names file, line and key.
    """
    data = read_bounded(path, MOST_BYTES, "a suite of tasks")
    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}: must be UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        at = re.search(r" \(at line (\d+), column \d+\)", str(error))
        where = f"{path}:{at[1]}" if at else f"{path}"
        raise DataError(
            f"{where}: must be TOML: {excerpt(str(error).replace(at[0] if at else '', ''))}"
        ) from None
    if unknown := sorted(set(document) - {"name", "contexts", "tasks"}):
        raise DataError(f"{path}: must have name, contexts and tasks only, has {unknown[0]!r:.80}")
    tasks = document.get("tasks")
    if not isinstance(tasks, list) or not 0 < len(tasks) <= MOST_TASKS:
        raise DataError(f"{path}: must have 1 to {MOST_TASKS:,} tasks, [[tasks]] each")
    contexts = from_json(_Contexts, {"contexts": document.get("contexts", {})}, str(path)).contexts
    lines = [data.count(b"\n", 0, found.start()) + 1 for found in _HEADER.finditer(data)]
    made: list[Task] = []
    first: dict[str, int] = {}
    for i, entry in enumerate(tasks):
        line = lines[i] if len(lines) == len(tasks) else 1
        where = f"{path}:{line}"
        task = _task(entry, contexts, where)
        if task.id in first:
            raise DataError(f"{where}: id must be unique, {task.id!r} is at line {first[task.id]}, too")
        first[task.id] = line
        made.append(task)
    name = document.get("name", path.stem)
    if not isinstance(name, str) or not 0 < len(name) <= 80:
        raise DataError(f"{path}: name must be a text of 1 to 80 characters")
    return Suite(name, tuple(made), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class _Contexts:
    contexts: dict[str, str]


_RULES: Final = tuple(field.name for field in fields(Rules))
_KEYS: Final = (*(field.name for field in fields(Task) if field.name != "rules"), "context", *_RULES)


def _task(entry: Any, contexts: dict[str, str], where: str) -> Task:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: a task must be a table, [[tasks]]")
    for key in entry:
        if key not in _KEYS:
            near = get_close_matches(key, _KEYS, 1)
            meant = f"; {near[0]}?" if near else ""
            raise DataError(f"{where}: a task has no {key!r:.80}{meant}")
    values = {key: value for key, value in entry.items() if key not in (*_RULES, "context")}
    context = entry.get("context")
    if context is not None:
        if not isinstance(context, str) or context not in contexts:
            raise DataError(f"{where}: context must be a name in [contexts], got {context!r:.80}")
        values["prompt"] = f"{contexts[context].strip()}\n\n{values.get('prompt', '')}"
    values["rules"] = {key: value for key, value in entry.items() if key in _RULES}
    try:
        return from_json(Task, values, where)
    except DataError as error:
        said = str(error).removeprefix(f"{where}: ").removeprefix("rules.")
        raise DataError(f"{where}: {said}") from None
