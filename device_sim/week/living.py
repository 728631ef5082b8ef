"""A week: by day the companion talks with the user, by night it learns, in the morning all of it is asked.

    talk -> judge -> night -> morning, for each day

All of it is the product's own: the store, the memory, the privacy filter, the router, and the night with its
gate. What is simulated is the user alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from device_sim.companion.companion import Companion
from device_sim.companion.config import CompanionConfig
from device_sim.companion.feedback import judge
from device_sim.companion.opening import open_companion
from device_sim.night.config import NightConfig
from device_sim.night.cycle import run_night
from device_sim.night.engine import Engine
from device_sim.night.report import outcome
from device_sim.night.state import Night, read_nights
from device_sim.week.config import WeekConfig
from device_sim.week.morning import measure_morning
from device_sim.week.state import STORE, Day, Exchange, NightCame, Week, open_week, write_week
from device_sim.week.user import Message, User, knows, shows
from personality_common.files.atomic import folder_lock
from personality_common.terminal.progress import Reporter


def live_week(config: WeekConfig, engine: Engine, reporter: Reporter) -> Week:
    """Live a week, or go on with one that was stopped; one that was lived is read.

    A message that a kill hit is said again, and a night goes on where it was.

    Raises:
        ConfigError: the folder has something else, or a week of other settings.
        ToolkitError: another process has it; the disk or the battery is low.
        DataError: something in it is damaged.
    """
    week = open_week(config)
    user = User(config.seed, config.days, config.turns)
    with folder_lock(config.out):
        for number in range(1, config.days + 1):
            day = week.days[number - 1] if number <= len(week.days) else Day(number)
            for step in (_talk, _judge, _night, _morning):
                day = step(day, week, config, user, engine, reporter)
                week = _with(week, day)
                write_week(config.out, week)
    return week


Step = Callable[[Day, Week, WeekConfig, User, Engine, Reporter], Day]


def _with(week: Week, day: Day) -> Week:
    return replace(week, days=(*week.days[: day.number - 1], day, *week.days[day.number :]))


def companion_config(config: WeekConfig, adapter: str | None = None) -> CompanionConfig:
    """The companion of the week, greedy, so that the same seed hears the same.

    Its answers are as long as `pt chat` lets them be: what is broken off no night learns.
    """
    return CompanionConfig(config.out / STORE, config.model, adapter, temperature=0.0, threads=config.threads)


def _talk(day: Day, week: Week, config: WeekConfig, user: User, engine: Engine, reporter: Reporter) -> Day:
    """What is left to say that day, each in a conversation of its own."""
    messages, start = user.day(day.number), time.process_time()
    if len(day.exchanges) == len(messages):
        return day
    with (
        open_companion(companion_config(config), reporter) as first,
        reporter.stage(f"day {day.number}", len(messages), "messages") as stage,
    ):
        stage.advance(len(day.exchanges))
        for message in messages[len(day.exchanges) :]:
            day = replace(day, exchanges=(*day.exchanges, _say(first, message, user, day.number)))
            write_week(config.out, _with(week, day))
            stage.advance(1)
    return replace(day, cpu_s=day.cpu_s + time.process_time() - start)


def _say(opened: Companion, message: Message, user: User, day: int) -> Exchange:
    companion = Companion(opened.log, opened.parts, user=opened.user)
    answer = "".join(companion.answer(message.said)).strip()
    right = None
    if message.kind == "talks":
        right = shows(answer, user.sign_off(day))
    elif message.kind == "asks":
        right = knows(answer, next(user.value(f, day) for f in user.facts if f.what == message.what))
    turn = companion.turns[-1] if len(companion.turns) == 2 else None
    return Exchange(message.kind, message.said, answer, turn, len(companion.recalled), right, message.what)


def _judge(day: Day, week: Week, config: WeekConfig, user: User, engine: Engine, reporter: Reporter) -> Day:
    """In the evening the user goes through the answers."""
    if day.judged:
        return day
    found = []
    for at, (message, said) in enumerate(zip(user.day(day.number), day.exchanges, strict=True)):
        verdict = user.judges(day.number, at, message, said.answer)
        if said.turn is None:
            found.append(said)
            continue
        if verdict.edit is not None:
            judge(config.out / STORE, said.turn, edit=verdict.edit)
        if verdict.thumbs is not None:
            judge(config.out / STORE, said.turn, reward=float(verdict.thumbs), thumbs=True)
        found.append(replace(said, edit=verdict.edit, thumbs=verdict.thumbs))  # type: ignore[arg-type]
    return replace(day, exchanges=tuple(found), judged=True)


def _night(day: Day, week: Week, config: WeekConfig, user: User, engine: Engine, reporter: Reporter) -> Day:
    """Tonight's night; one that a kill left, before or after it was done, is that night."""
    if day.night is not None:
        return day
    start, store = time.process_time(), config.out / STORE
    nights = read_nights(store)
    before = [other.night.number for other in week.days if other.night and other.night.number is not None]
    tonight = nights[-1] if nights and nights[-1].number > max(before, default=0) else None
    if tonight is None or tonight.step != "done":
        tonight = run_night(
            NightConfig(
                store, config.model, suite=config.suite, budget_minutes=config.budget_minutes,
                seed=config.seed, threads=config.threads, resume=tonight is not None,
            ),
            engine, reporter,
        )  # fmt: skip
    spent = day.cpu_s + time.process_time() - start
    return replace(day, night=_came(tonight), cpu_s=spent)


def _came(night: Night | None) -> NightCame:
    if night is None:
        return NightCame("nothing new")
    sets = {one.kind: one for one in night.sets}
    target, tasks = sets.get("target"), sets.get("capability")
    return NightCame(
        outcome(night),  # type: ignore[arg-type]  # it is done
        night.number, night.version, night.activated, night.reasons,
        tuple(check.id for check in night.checks if check.failed),
        len(night.split.train), len(night.split.held_out),
        night.training.tokens if night.training else 0,
        target.gain if target else None,
        (tasks.before, tasks.after) if tasks else None,
        len(night.lost), len(night.won), sum(night.seconds.values()),
    )  # fmt: skip


def _morning(day: Day, week: Week, config: WeekConfig, user: User, engine: Engine, reporter: Reporter) -> Day:
    if day.morning is not None:
        return day
    assert day.night is not None
    start = time.process_time()
    found = measure_morning(companion_config(config, adapter="none"), engine, user, day, reporter)
    return replace(day, morning=found, cpu_s=day.cpu_s + time.process_time() - start)
