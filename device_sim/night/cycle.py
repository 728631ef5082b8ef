"""The night: what was said by day is learned, judged, and taken up or refused.

    collect -> head -> split -> baseline -> train -> evaluate -> gate -> register -> activate -> report

Each step ends with the night's state on the disk, and can be done again: a kill costs a step at most. Head
and adapter are made over all that is live, from what shipped, never on top of yesterday's: what was forgotten
by day is in neither after the night. Each has a gate of its own, and what is accepted goes live in one step.
Neither takes anything from a log that may be another person's.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from device_sim.companion.log import EventLog, read_events
from device_sim.companion.store import hold_store
from device_sim.night.activation import activate, keep_candidate, refused, register
from device_sim.night.augmenting import augmentation, items_of
from device_sim.night.beginning import begin, must_be_made_anew
from device_sim.night.config import NightConfig
from device_sim.night.data import Item
from device_sim.night.desk import Desk
from device_sim.night.engine import Engine, Prompted
from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import GateState
from device_sim.night.gate.findings import Finding
from device_sim.night.gate.judge import judge
from device_sim.night.gate.told import person, sound
from device_sim.night.general import restyled
from device_sim.night.listening import open_listener
from device_sim.night.machine import require_room
from device_sim.night.measuring import (
    evidence,
    figures,
    measure,
    read_measured,
    write_measured,
)
from device_sim.night.person import retold
from device_sim.night.planning import split_of
from device_sim.night.reactions import reactions
from device_sim.night.state import (
    AFTER_FILE,
    AUGMENTED_FILE,
    BEFORE_FILE,
    CANDIDATE_FILE,
    HEAD_FILE,
    STEPS,
    WORK,
    Night,
    Step,
    sweep,
    write_night,
)
from device_sim.night.teaching import head_night, held_back
from device_sim.night.told import told
from personality_common.registry.record import now
from personality_common.terminal.progress import Reporter

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
        MismatchError: its adapters are another model's, or its heads another bundle's.
    """
    with hold_store(config.store) as store:
        require_room(config.store, config.min_free)
        listener = open_listener(config.bundle)
        with EventLog(store.events):
            pass  # mends what a kill left: what was to be forgotten is, before anything is read
        sweep(config.store)
        night = begin(config, store, engine, listener, reporter)
        if night is None:
            return None
        if night.step in ("head", "split") and listener is None and night.settings.bundle is not None:
            listener = open_listener(Path(night.settings.bundle))
        desk = Desk(store, engine, night.number, night.settings.user, night.until, reporter, listener)
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


def _head(night: Night, desk: Desk) -> Night:
    """A head of all reactions that are live, if there are new ones, or it must be made without some."""
    if desk.listener is None or desk.heads is None:
        return night
    listener, heads = desk.listener, desk.heads
    found = reactions(
        read_events(desk.store.events), night.settings.user, listener.bundle, listener.tokens, night.until
    )
    others, baseline = desk.others, heads.active
    waiting, anew = len(found.by_night(others)[1]), must_be_made_anew(others, desk.data.forgotten)
    if not waiting and not anew:
        return night
    theirs = _person(night, desk)
    if another := theirs.check.failed and waiting > 0:
        found = found.without_new(others)
    told, head = head_night(found, others, listener, baseline, heads.load(baseline))
    if another:
        told = held_back(told, theirs, waiting, anew)
    keep_candidate(desk.folder / HEAD_FILE, head if told.accepted else None)
    return replace(night, head=told)


def _person(night: Night, desk: Desk) -> Finding:
    """Whether it is who was there before: when the adapter last took something, and when either did."""
    found = []
    for heard in (False, True):
        events = read_events(desk.store.events)
        facts = retold(events, night.settings.user, desk.others, night.until, heard=heard)
        found.append(person(facts.changed, facts.again))
    return max(found, key=lambda one: (one.check.failed, one.check.status != "not judged"))


def _split(night: Night, desk: Desk) -> Night:
    """Divide what is live, and choose what the candidate is compared with."""
    theirs = _person(night, desk)
    if theirs.check.failed and night.head is not None and night.head.new:
        night = _head(night, desk)  # made before this was asked, by an earlier version or in another state
    active = desk.registry.active
    if not night.new and not any(v.startswith(desk.registry.codec.letter) for v in night.unclean):
        return replace(night, step="register")  # the head alone has news
    baseline = desk.shipped if active in night.unclean else active
    night = replace(night, baseline=baseline)
    found = split_of(desk.others, desk.data, night.settings.seed, desk.engine.embed)
    divided = replace(night, split=found, restyled=restyled(desk.chosen(found.train)))
    judged, least = len(desk.target(divided)), GateConfig().least_examples
    if judged < least or not found.train:
        # Nothing is taken: what is too little tonight is there tomorrow.
        return refused(
            replace(night, step="register"), "night.examples", judged, least,
            f"too few examples to judge by: {judged} can be held out, {least} are needed, of conversations of"
            " their own; what is new waits for the next night",
        )  # fmt: skip
    weighed = () if theirs.check.failed else sound(told(desk.engine, desk.chosen(night.new)))
    checked = (theirs, *weighed)
    night, divided = (replace(n, checks=tuple(found.check for found in checked)) for n in (night, divided))
    if wrong := tuple(found.reason for found in checked if found.check.failed):
        # Nothing is taken here, either: some of it may be forgotten, and more may be said.
        return replace(night, step="register", accepted=False, reasons=wrong)
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
    made = augmentation(night, desk)
    train = desk.lessons(night, items_of(made, desk.chosen(night.split.train)))
    validation = [(Prompted(item.said), item.answer) for item in desk.chosen(night.split.validation)]
    replay = desk.replay(night)
    training = desk.engine.train(
        train, validation, replay, desk.folder / CANDIDATE_FILE, desk.folder / WORK,
        seed=night.settings.seed, minutes=night.settings.budget_minutes, reporter=desk.reporter,
    )  # fmt: skip
    return replace(night, training=training, replayed=len(replay), augmented=made.facts)


def _evaluate(night: Night, desk: Desk) -> Night:
    """Answers and scores of the candidate."""
    after = measure(desk.engine, desk.folder / CANDIDATE_FILE, None, desk.plan(night), desk.reporter)
    write_measured(desk.folder / AFTER_FILE, after)
    return night


def _gate(night: Night, desk: Desk) -> Night:
    """Whether it goes live."""
    before, after = (read_measured(desk.folder / name) for name in (BEFORE_FILE, AFTER_FILE))
    seen = evidence(before, after, desk.plan(night))
    state = desk.others[-1].gate if desk.others else GateState()
    found = judge(seen, state)
    return replace(
        night, sets=figures(before, after), accepted=found.accepted, checks=(*night.checks, *found.checks),
        reasons=found.reasons,
        lost=tuple(change.name for change in found.lost), won=tuple(change.name for change in found.won),
        leaks=tuple(leak.task for leak in seen.leaks or ()), gate=found.state,
    )  # fmt: skip


def _report(night: Night, desk: Desk) -> Night:
    """Let go of what only the night needed."""
    shutil.rmtree(desk.folder / WORK, ignore_errors=True)
    for name in (CANDIDATE_FILE, HEAD_FILE, AUGMENTED_FILE):
        (desk.folder / name).unlink(missing_ok=True)
    for registry in (desk.registry, desk.heads):
        if registry is not None:
            registry.prune(KEPT)
    return replace(night, ended=now())


_STEPS: Final[Mapping[Step, Callable[[Night, Desk], Night]]] = {
    "head": _head,
    "split": _split,
    "baseline": _baseline,
    "train": _train,
    "evaluate": _evaluate,
    "gate": _gate,
    "register": register,
    "activate": activate,
    "report": _report,
}


def _turns(items: list[Item]) -> tuple[str, ...]:
    return tuple(sorted({turn for item in items for turn in item.turns}))
