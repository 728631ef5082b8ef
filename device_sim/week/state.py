"""A week on disk: how far it has come, what was said, and what each morning found.

OUT/week.json      this; replaced after each message and step, so that a kill costs one of them at most
OUT/companion      the store, as `pt chat` and `pt night` have it
OUT/report.html    the page
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from device_sim.week.config import WeekConfig
from device_sim.week.user import Kind
from personality_common.errors import ConfigError, DataError
from personality_common.evidence.claims import finite
from personality_common.files.atomic import read_json_object, write_json
from personality_common.files.typed import from_json

SCHEMA: Final = 1
WEEK_FILE: Final = "week.json"
STORE: Final = "companion"
PAGE_FILE: Final = "report.html"
Arm: TypeAlias = Literal["neither", "memory", "adapter", "both", "served"]
ARMS: Final[tuple[Arm, ...]] = ("neither", "memory", "adapter", "both", "served")
"""Neither: the model as it shipped. The adapter is tonight's candidate, whatever the gate said of it; served
is what the user has: the memory, and the adapter that the gate let through, if there is one."""
Outcome: TypeAlias = Literal["accepted", "refused", "too little", "nothing new"]


@dataclass(frozen=True)
class Exchange:
    """What was said, and what became of it.

    Attributes:
        turn: id of the answer in the log; None: it was not kept.
        memories: how many stood in the prompt.
        right: the style was shown, or what was asked for was in the answer; None: nothing to be right about.
    """

    kind: Kind
    said: str
    answer: str
    turn: str | None
    memories: int
    right: bool | None
    what: str | None = None
    edit: str | None = None
    thumbs: Literal[-1, 1] | None = None


@dataclass(frozen=True)
class NightCame:
    """What a night came to; all else is in the store's `nights`.

    Attributes:
        number: of the night in the store; None: there was nothing new, and none.
        failed: ids of the checks that refused it.
        capability: tasks right, share: of what was in use, and of the candidate; None: not judged.
        seconds: by the clock.
    """

    outcome: Outcome
    number: int | None = None
    version: str | None = None
    active: str | None = None
    reasons: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    trained: int = 0
    held_out: int = 0
    tokens: int = 0
    gain: float | None = None
    capability: tuple[float, float] | None = None
    lost: int = 0
    won: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Asked:
    """A question about a fact, and what each arm answered."""

    what: str
    said: str
    value: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Styled:
    """A message that is never said by day, and what was answered; each with the memory."""

    said: str
    answers: dict[str, str]


@dataclass(frozen=True)
class Morning:
    """What was measured after a night.

    Attributes:
        nats: per token of the model's own answers to prompts of nobody's, by arm; the perplexity's logarithm.
    """

    asked: tuple[Asked, ...]
    styled: tuple[Styled, ...]
    nats: dict[str, float]


@dataclass(frozen=True)
class Day:
    """A day, its night, and the morning after; None: not yet.

    Attributes:
        cpu_s: of the process and all its threads, without what a kill undid.
    """

    number: int
    exchanges: tuple[Exchange, ...] = ()
    judged: bool = False
    night: NightCame | None = None
    morning: Morning | None = None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class Settings:
    """Of the week: it goes on with these, and no others."""

    days: int
    turns: int
    seed: int
    model: str
    suite: str


@dataclass(frozen=True)
class Week:
    """A week, as far as it was lived."""

    settings: Settings
    days: tuple[Day, ...] = ()

    @property
    def done(self) -> bool:
        return len(self.days) == self.settings.days and self.days[-1].morning is not None


def settings_of(config: WeekConfig) -> Settings:
    return Settings(config.days, config.turns, config.seed, config.model, config.suite)


def write_week(out: Path, week: Week) -> None:
    """Replace what is known."""
    write_json(out / WEEK_FILE, {"schema": SCHEMA, **finite(asdict(week))}, private=True)


def open_week(config: WeekConfig) -> Week:
    """The week to live: a new one, or one that was stopped, or lived.

    Raises:
        ConfigError: the folder has something else, or a week of other settings.
        DataError: the file is damaged.
    """
    path, settings = config.out / WEEK_FILE, settings_of(config)
    if not path.exists():
        if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
            raise ConfigError(f"--out must be a new folder or a week, {config.out} is something else")
        config.out.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Week(settings)
    content: Mapping[str, Any] = read_json_object(path)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: must be of schema {SCHEMA}, is of {str(content.get('schema'))[:20]}")
    week = from_json(Week, content, str(path))
    if week.settings != settings:
        was = ", ".join(
            f"--{name.replace('_', '-')} {value}" for name, value in asdict(week.settings).items()
        )
        raise ConfigError(f"--out {config.out} holds a week of {was}; it goes on with these alone")
    return week
