"""The night: what was said by day is learned, judged, and taken up or refused.

    collect -> split -> baseline -> train -> evaluate -> gate -> register -> activate -> report

Each step ends with the night's state on the disk, and can be done again: a kill costs a step at most. The
adapter is trained from the base over all that is live, never on top of yesterday's: what was forgotten by day
is in no adapter after the night.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from device_sim.companion.log import EventLog, read_events
from device_sim.companion.store import hold_store
from device_sim.night.beginning import begin
from device_sim.night.config import NightConfig
from device_sim.night.data import Item, collect
from device_sim.night.desk import Desk
from device_sim.night.engine import Engine
from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import GateState
from device_sim.night.gate.judge import judge
from device_sim.night.gate.told import sound
from device_sim.night.general import restyled
from device_sim.night.machine import require_room
from device_sim.night.measuring import (
    evidence,
    figures,
    measure,
    read_measured,
    write_measured,
)
from device_sim.night.planning import split_of
from device_sim.night.state import (
    AFTER_FILE,
    BEFORE_FILE,
    CANDIDATE_FILE,
    STEPS,
    WORK,
    Night,
    Step,
    sweep,
    write_night,
)
from device_sim.night.told import told
from personality_common.evidence.claims import within
from personality_common.registry.record import Gate, Record, now
from personality_common.terminal.progress import Reporter

FACT_TIMES: Final = 3
"""How often a fact's wording is trained in each pass: a style is learned in two or three, a fact in nine."""
KEPT: Final = 8
"""Versions of the adapter that stay, beside those that are pinned or in use."""


def run_night(config: NightConfig, engine: Engine, reporter: Reporter) -> Night | None:
    """Live a night, or go on with one that was stopped.

    Returns:
        The night; None: there is nothing new to learn, and nothing to unlearn.

    Raises:
        ConfigError: there is none to go on with.
        ToolkitError: another process has the store; the disk or the battery is low.
        DataError: something in the store is damaged.
    """
    with hold_store(config.store) as store:
        require_room(config.store, config.min_free)
        with EventLog(store.events):
            pass  # mends what a kill left: what was to be forgotten is, before anything is read
        sweep(config.store)
        night = begin(config, store, engine, reporter)
        if night is None:
            return None
        desk = Desk(store, engine, night.number, night.settings.user, night.until, reporter)
        while night.step != "done":
            step, started = night.step, time.monotonic()
            reporter.say(f"{night.name}: {step}")
            night = _STEPS[step](night, desk)
            if night.step == step:
                night = replace(night, step=STEPS[STEPS.index(step) + 1])
            took = night.seconds.get(step, 0.0) + time.monotonic() - started
            night = replace(night, seconds={**night.seconds, step: round(took, 3)})
            write_night(config.store, night)
        return night


def _split(night: Night, desk: Desk) -> Night:
    """Divide what is live, and choose what the candidate is compared with."""
    active = desk.registry.active
    baseline = desk.shipped if active in night.unclean else active
    night = replace(night, baseline=baseline)
    found = split_of(desk.others, desk.data, night.settings.seed, desk.engine.embed)
    divided = replace(night, split=found, restyled=restyled(desk.chosen(found.train)))
    judged, least = len(desk.target(divided)), GateConfig().least_examples
    if judged < least or not found.train:
        # Nothing is taken: what is too little tonight is there tomorrow.
        return _refused(
            replace(night, step="activate"), "night.examples", judged, least,
            f"too few examples to judge by: {judged} can be held out, {least} are needed, of conversations of"
            " their own; what is new waits for the next night",
        )  # fmt: skip
    checked = sound(told(desk.engine, desk.chosen(night.new)))
    night, divided = (replace(n, checks=tuple(found.check for found in checked)) for n in (night, divided))
    if wrong := tuple(found.reason for found in checked if found.check.failed):
        # Nothing is taken here, either: some of it may be forgotten, and more may be said.
        return replace(night, step="activate", accepted=False, reasons=wrong)
    learned = desk.chosen((*found.train, *found.validation))
    whole = desk.chosen((*found.train, *found.validation, *found.held_out, *found.earlier, *found.recall))
    return replace(divided, saw=_turns(learned), turns=_turns(whole))


def _baseline(night: Night, desk: Desk) -> Night:
    """Answers and scores of what is in use."""
    before = measure(desk.engine, desk.file(night.baseline), night.baseline, desk.plan(night), desk.reporter)
    write_measured(desk.folder / BEFORE_FILE, before)
    return night


def _train(night: Night, desk: Desk) -> Night:
    """A candidate, from the base, over all that is live and as much of what is nobody's."""
    train = [
        (item.said, item.answer)
        for item in desk.chosen(night.split.train)
        for _ in range(FACT_TIMES if item.kind == "fact" else 1)
    ]
    validation = [(item.said, item.answer) for item in desk.chosen(night.split.validation)]
    replay = desk.replay(night)
    training = desk.engine.train(
        train, validation, replay, desk.folder / CANDIDATE_FILE, desk.folder / WORK,
        seed=night.settings.seed, minutes=night.settings.budget_minutes, reporter=desk.reporter,
    )  # fmt: skip
    return replace(night, training=training, replayed=len(replay))


def _evaluate(night: Night, desk: Desk) -> Night:
    """Answers and scores of the candidate."""
    after = measure(desk.engine, desk.folder / CANDIDATE_FILE, None, desk.plan(night), desk.reporter)
    write_measured(desk.folder / AFTER_FILE, after)
    return night


def _gate(night: Night, desk: Desk) -> Night:
    """Whether it goes live."""
    values = sorted({i.value for i in desk.chosen(night.split.train) if i.value})
    before, after = (read_measured(desk.folder / name) for name in (BEFORE_FILE, AFTER_FILE))
    seen = evidence(before, after, desk.plan(night), values)
    state = desk.others[-1].gate if desk.others else GateState()
    found = judge(seen, state)
    return replace(
        night, sets=figures(before, after), accepted=found.accepted, checks=(*night.checks, *found.checks),
        reasons=found.reasons,
        lost=tuple(change.name for change in found.lost), won=tuple(change.name for change in found.won),
        leaks=tuple(leak.task for leak in seen.leaks or ()), gate=found.state,
    )  # fmt: skip


def _register(night: Night, desk: Desk) -> Night:
    """The candidate becomes a version, accepted or not: one that was refused cannot be activated."""
    mark = f"{night.name} {night.began}"
    for version in desk.registry.versions():
        if version.stored and version.stored.record.data.get("night") == mark:
            return replace(night, version=version.version)
    base = night.baseline if night.baseline is not None else desk.shipped
    record = Record(
        identity=desk.registry.pointers().identity,
        created=now(),
        parents=(desk.shipped,),
        settings={"seed": night.settings.seed, "replayed": night.replayed, "compared with": base},
        data={"night": mark},
        before={figure.name: figure.before for figure in night.sets},
        after={figure.name: figure.after for figure in night.sets},
        gates=tuple(Gate(c.name, not c.failed, c.against) for c in night.checks),
    )
    value = desk.engine.value(desk.folder / CANDIDATE_FILE)
    return replace(night, version=desk.registry.add(value, record))


def _activate(night: Night, desk: Desk) -> Night:
    """The candidate goes live if it was accepted; what saw what was forgotten cannot any more."""
    gone = collect(read_events(desk.store.events), night.settings.user).forgotten & set(night.saw)
    if gone and night.accepted:
        night = _refused(
            night, "night.forgotten", len(gone), 0,
            "something that it learned from was forgotten while the night was stopped",
        )  # fmt: skip
    unclean = [*night.unclean, *([night.version] if gone and night.version else [])]
    if night.accepted and night.version is not None:
        desk.registry.activate(night.version)
    elif desk.registry.active in unclean:
        desk.registry.activate(desk.shipped)
    for version in unclean:
        desk.registry.block(version, "it learned from what was forgotten")
    return replace(night, activated=desk.registry.active, unclean=tuple(unclean))


def _report(night: Night, desk: Desk) -> Night:
    """Let go of what only the night needed."""
    shutil.rmtree(desk.folder / WORK, ignore_errors=True)
    (desk.folder / CANDIDATE_FILE).unlink(missing_ok=True)
    desk.registry.prune(KEPT)
    return replace(night, ended=now())


_STEPS: Final[Mapping[Step, Callable[[Night, Desk], Night]]] = {
    "split": _split,
    "baseline": _baseline,
    "train": _train,
    "evaluate": _evaluate,
    "gate": _gate,
    "register": _register,
    "activate": _activate,
    "report": _report,
}


def _refused(night: Night, id: str, measured: float, limit: float, why: str) -> Night:
    """A night that is refused for another reason than the gate's."""
    name = "examples enough to judge by" if id == "night.examples" else "nothing forgotten since"
    check = within(id, name, measured, ">=" if id == "night.examples" else "<=", limit)
    return replace(night, accepted=False, checks=(*night.checks, check), reasons=(*night.reasons, why))


def _turns(items: list[Item]) -> tuple[str, ...]:
    return tuple(sorted({turn for item in items for turn in item.turns}))
