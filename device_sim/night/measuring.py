"""What a model with an adapter says and scores on all that the gate looks at; and how it is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

from device_sim.capability.personal import Told, personal_suite
from device_sim.capability.rules import fold, has_word
from device_sim.capability.running import Scored, leaked
from device_sim.capability.suite import Suite, Task, default_suite, probes, read_suite
from device_sim.night.data import Item
from device_sim.night.engine import Engine, Prompted, Said
from device_sim.night.facts import fact
from device_sim.night.gate.evidence import Kind, Leak, NightEvidence, Paired
from device_sim.night.reading import measured as near_questions
from device_sim.night.recalling import beside_known, recalled
from device_sim.night.scoring import chrf, relevance
from device_sim.night.state import MAX_BYTES, SetFigures, SetKind
from personality_common.errors import DataError
from personality_common.evidence.intervals import mean_interval
from personality_common.files.atomic import read_json_object, write_json
from personality_common.files.typed import from_json
from personality_common.terminal.progress import Reporter

SCHEMA: Final = 1
WORDING: Final = "wording of answers"
TOPIC: Final = "answers on the topic"
FACTS: Final = "facts"
"""Beside the memory; a night that an earlier version began has them as `personal`, and is judged by them."""
ALONE: Final = "facts alone"
UNASKED: Final = "asked in vain"
IN_VAIN: Final = 40
"""Questions that what was told does not answer, those that are nearest to it."""
LEAST_QUESTIONS: Final = 6
"""Two of each fact: of fewer nothing is sure. That four are all answered is chance once in sixteen times."""
DECODED: Final = 32
"""Held-out messages that are answered by the runtime that serves."""
ANSWER_TOKENS: Final = 64
GENERAL: Final = 40
SHORT: Final = "short"
SHORT_EVERY: Final = 3
"""The short suite is every third task of the default one; of fewer one lost is too much for the gate."""
SHORT_GENERAL: Final = 12


@dataclass(frozen=True)
class Example:
    """One of a set.

    Attributes:
        name: of a task; of a turn, its id.
        score: higher is better.
        group: a task's domain.
        prompt: what was said to the model; None where it is the log's.
        answer: what it answered; None where nothing was decoded.
    """

    name: str
    score: float
    group: str = ""
    prompt: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Measured:
    """What a version says and scores.

    Attributes:
        version: None: the base as it shipped.
        sets: name -> examples; the same names and examples before and after.
        kinds: name -> what the gate takes the set for.
    """

    version: str | None
    sets: dict[str, tuple[Example, ...]]
    kinds: dict[str, SetKind]


@dataclass(frozen=True)
class Plan:
    """What is to be measured.

    Attributes:
        target: held-out items of the night; name of the set.
        earlier: name of a night -> what it held out.
        recall: of the target, wordings of facts that are not trained.
        general: prompts of nobody's with the base's own answers.
        known: items that are trained, for facts are asked beside what is remembered.
        suites: capability, then probes.
    """

    name: str
    target: Sequence[Item]
    earlier: Mapping[str, Sequence[Item]]
    recall: Sequence[Item]
    general: Mapping[str, str]
    suites: Sequence[Suite]
    known: Sequence[Item] = ()


def suites(name: str) -> list[Suite]:
    """The capability suite that is meant, and the probes.

    Raises:
        DataError: a file that is none.
    """
    if name == SHORT:
        return [Suite(SHORT, default_suite().tasks[::SHORT_EVERY]), probes()]
    return [default_suite() if name == "default" else read_suite(Path(name)), probes()]


def measure(
    engine: Engine, adapter: Path | None, version: str | None, plan: Plan, reporter: Reporter
) -> Measured:
    """Score everything under one version."""
    sets: dict[str, tuple[Example, ...]] = {}
    kinds: dict[str, SetKind] = {}

    def likely(name: str, kind: SetKind, ids: Sequence[str], said: Sequence[Said]) -> None:
        losses = engine.losses(adapter, said)
        sets[name] = tuple(Example(id, -loss) for id, loss in zip(ids, losses, strict=True))
        kinds[name] = kind

    def asked(items: Sequence[Item]) -> list[Said]:
        each = recalled(items, plan.known, engine.embed)
        return [(one, item.answer) for one, item in zip(each, items, strict=True)]

    likely(plan.name, "target", [i.id for i in plan.target], asked(plan.target))
    for name, items in plan.earlier.items():
        likely(name, "earlier", [i.id for i in items], asked(items))
    if plan.general:
        said = [(Prompted(text), told) for text, told in plan.general.items()]
        likely("general", "general", list(plan.general), said)
    decoded = [item for item in plan.target if item.kind == "chat"][:DECODED]
    if decoded:
        answers = engine.answers(adapter, [Prompted(i.said) for i in decoded], ANSWER_TOKENS)
        near = relevance([i.said for i in decoded], answers, engine.embed)
        both = list(zip(decoded, answers, near, strict=True))
        sets[WORDING] = tuple(Example(i.id, chrf(a, i.answer), answer=a) for i, a, _ in both)
        sets[TOPIC] = tuple(Example(i.id, r) for i, _, r in both)
        kinds |= {WORDING: "wording", TOPIC: "topic"}
    if plan.recall:
        tasks = personal_suite([Told(i.said, (i.value or "",)) for i in plan.recall]).tasks
        beside, alone = [one for one, _ in asked(plan.recall)], [Prompted(i.said) for i in plan.recall]
        answers = engine.answers(adapter, beside + alone, tasks[0].max_tokens)
        ids = [i.id for i in plan.recall]
        sets[FACTS] = _answered(tasks, answers[: len(ids)], ids)
        sets[ALONE] = _answered(tasks, answers[len(ids) :], [f"{id} alone" for id in ids])
        kinds |= {FACTS: "remembered", ALONE: "personal"}
    if values := {fold(item.value) for item in plan.known if item.value}:
        asked_near = beside_known(near_questions(), plan.known, engine.embed)
        nearest = sorted(asked_near, key=lambda one: -one.score)[:IN_VAIN]
        answers = engine.answers(adapter, nearest, ANSWER_TOKENS)
        sets[UNASKED] = tuple(_in_vain(one, a, values) for one, a in zip(nearest, answers, strict=True))
        kinds[UNASKED] = "unasked"
    capability, probing = (engine.run(adapter, suite, reporter) for suite in plan.suites)
    sets["capability"] = tuple(_task(s) for s in capability)
    kinds["capability"] = "capability"
    for kind in ("style", "safety"):
        if found := tuple(_task(s) for s in probing if s.task.domain == kind):
            sets[f"{kind} probes"], kinds[f"{kind} probes"] = found, kind
    return Measured(version, sets, kinds)


def _answered(tasks: Sequence[Task], answers: Sequence[str], ids: Sequence[str]) -> tuple[Example, ...]:
    each = zip(tasks, answers, ids, strict=True)
    return tuple(_task(Scored(task, answer, task.rules.score(answer)), id) for task, answer, id in each)


def _in_vain(asked: Prompted, answer: str, values: Iterable[str]) -> Example:
    """1 where the answer tells nothing of what was told, but what is in the question."""
    said, told = fold(asked.text), fold(answer)
    tells = any(has_word(told, value) and not has_word(said, value) for value in values)
    return Example(asked.text, 0.0 if tells else 1.0, prompt=asked.text, answer=answer)


def _task(scored: Scored, name: str | None = None) -> Example:
    task = scored.task
    return Example(name or task.id, scored.score, task.domain, task.prompt, scored.answer)


def evidence(before: Measured, after: Measured, plan: Plan) -> NightEvidence:
    """Both side by side, and which values that were trained are in answers where they have nothing to do."""
    paired = {
        name: _paired(name, kind, before, after)
        for name, kind in before.kinds.items()
        if kind != "topic"
        and not (kind in ("personal", "remembered") and len(before.sets[name]) < LEAST_QUESTIONS)
    }
    by_id = {task.id: task for suite in plan.suites for task in suite.tasks}
    unrelated = [name for name, kind in before.kinds.items() if kind in ("capability", "safety")]

    def scored(found: Measured) -> list[Scored]:
        return [
            Scored(by_id[e.name], e.answer or "", e.score) for name in unrelated for e in found.sets[name]
        ]

    one, other = scored(before), scored(after)
    values = {
        item.value: made.what if (made := fact(item.told or "")) else None
        for item in plan.known
        if item.value
    }
    found = leaked(values, one, other)
    leaks = tuple(Leak(leak.task.id, leak.value, leak.answer) for leak in found)
    kept = tuple(pair for pair in paired.values() if pair.kind != "target")
    return NightEvidence(paired[plan.name], kept, leaks, len(other))


def _paired(name: str, kind: SetKind, before: Measured, after: Measured) -> Paired:
    one, other = before.sets[name], after.sets[name]
    decoded = all(e.answer is not None for e in (*one, *other))
    return Paired(
        name,
        cast("Kind", kind),  # those that the gate does not know are left out before
        tuple(e.score for e in one),
        tuple(e.score for e in other),
        tuple(e.name for e in one),
        tuple(e.group for e in one) if all(e.group for e in one) else (),
        tuple((a.answer or "", b.answer or "") for a, b in zip(one, other, strict=True)) if decoded else (),
    )


def figures(before: Measured, after: Measured) -> tuple[SetFigures, ...]:
    """Of each set: means, and the interval of the gain."""
    return tuple(
        _figures(name, kind, [e.score for e in before.sets[name]], [e.score for e in after.sets[name]])
        for name, kind in before.kinds.items()
        if before.sets[name]
    )


def _figures(name: str, kind: SetKind, before: Sequence[float], after: Sequence[float]) -> SetFigures:
    n = len(before)
    gain = mean_interval([b - a for a, b in zip(before, after, strict=True)])
    low, high = (gain.low, gain.high) if n > 1 else (None, None)
    return SetFigures(name, kind, n, sum(before) / n, sum(after) / n, gain.mean, low, high)


def write_measured(path: Path, measured: Measured) -> None:
    """Keep answers and scores: a user's own file, as the log is."""
    write_json(path, {"schema": SCHEMA, **asdict(measured)}, private=True)


def read_measured(path: Path) -> Measured:
    """Read what `write_measured` wrote.

    Raises:
        DataError: it is something else.
    """
    content = read_json_object(path, MAX_BYTES)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: must be of schema {SCHEMA}, is of {str(content.get('schema'))[:20]}")
    return from_json(Measured, content, str(path))
