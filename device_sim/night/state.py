"""A night on disk: how far it has come, and what was found; no text of anybody's.

    STORE/nights/0007/state.json      this; replaced after each step, so that a kill costs a step at most
    STORE/nights/0007/before.json     answers and scores of what was in use (`measuring`)
    STORE/nights/0007/after.json      of the candidate
    STORE/nights/0007/work, candidate.gguf, head.safetensors    of a night that goes on
    STORE/nights/0007/augmented.json  of one, too: questions that the base worded (`augmenting`)
    STORE/nights/general.json         the base model's own answers to prompts of nobody's

A night's data is nowhere: it is made of the log, by the ids that stand here.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeAlias

from device_sim.night.gate.evidence import GateState, Kind
from device_sim.night.split import Split
from personality_common.errors import DataError
from personality_common.evidence.claims import Check, finite
from personality_common.files.atomic import read_json_object, sync_folder, write_json
from personality_common.files.typed import from_json

SCHEMA: Final = 1
NIGHTS: Final = "nights"
STATE_FILE: Final = "state.json"
BEFORE_FILE: Final = "before.json"
AFTER_FILE: Final = "after.json"
CANDIDATE_FILE: Final = "candidate.gguf"
HEAD_FILE: Final = "head.safetensors"
AUGMENTED_FILE: Final = "augmented.json"
WORK: Final = "work"
DISCARDED: Final = ".discarded"
MAX_BYTES: Final = 64 << 20
_NAME: Final = re.compile(r"[0-9]{4,6}")

SetKind: TypeAlias = Literal[Kind, "topic"]
"""As the gate has them; and the cosine of answers to what was held out to what was said, which is reported
and refuses nothing: a short style loses some of it, as noise does."""
Step: TypeAlias = Literal[
    "head", "split", "baseline", "train", "evaluate", "gate", "register", "activate", "report", "done"
]
STEPS: Final[tuple[Step, ...]] = (
    "head", "split", "baseline", "train", "evaluate", "gate", "register", "activate", "report", "done",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Of the command that began a night; it goes on with them."""

    model: str
    user: str
    suite: str
    budget_minutes: float
    seed: int
    threads: int
    bundle: str | None = None
    augment: int = 0


@dataclass(frozen=True)
class Epoch:
    """Mean losses, nats per answer token, after so many steps."""

    step: int
    train_loss: float
    validation_loss: float | None = None


@dataclass(frozen=True)
class Training:
    """What a training took."""

    epochs: tuple[Epoch, ...]
    best_step: int
    tokens: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Augmented:
    """What the base made of the questions about one fact; the questions are in no file once the night ends.

    Attributes:
        memory: id of the turn that told it.
        made: questions that were written, and answers that were none.
        kept: that were trained.
        refused: reason -> of those that were not.
    """

    memory: str
    made: int
    kept: int
    refused: dict[str, int]


@dataclass(frozen=True)
class SetFigures:
    """A set under what was in use and under the candidate: means, and the 95% interval of the mean gain."""

    name: str
    kind: SetKind
    n: int
    before: float
    after: float
    gain: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class HeadNight:
    """What a night came to for the head, which reads moods.

    Attributes:
        reactions, nights: of how many reactions it was made, and of how many nights.
        new: ids of reactions that no night before had.
        saw: ids of turns that it was made of.
        left_out: reason -> turns.
        wealth: of its gate (`grpo.gate`), the greatest there ever was.
        overlap, error: mean share of the shipped head's top 8 that it keeps, and the standard error.
        kl: from the shipped head, nats a decision.
        rewards: mean of tonight's.
        more, less: tokens that are likelier than by the shipped head, and less likely, the furthest first.
        baseline: the version that was active before.
        accepted: whether it goes live; it is the shipped head then where there is no `version`.
        version: the candidate's, in the registry; activated: the version that was made the active one.
    """

    reactions: int
    nights: int
    new: tuple[str, ...]
    saw: tuple[str, ...]
    left_out: dict[str, int]
    wealth: float
    overlap: float
    error: float
    kl: float
    rewards: float | None
    more: tuple[str, ...]
    less: tuple[str, ...]
    baseline: str
    accepted: bool
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]
    version: str | None = None
    activated: str | None = None


@dataclass(frozen=True)
class Night:
    """All that is known of a night.

    Attributes:
        step: what is to be done next.
        began, ended: ISO 8601, in UTC.
        base: SHA-256 of the model's file.
        until: id of the last event of the log that counts.
        left_out: reason -> turns.
        new: ids of items that no night before had.
        saw: ids of turns that the candidate was trained on, or its best step was chosen by.
        turns: ids of all turns whose text, or an answer to it, is in the night's files.
        replayed: prompts of nobody's in training.
        augmented: by fact, questions that the base worded.
        restyled: the kind of prompt that was left out of replay, since the user restyles it.
        unclean: versions that saw what was forgotten since: blocked tonight.
        baseline: the version that the candidate is compared with.
        lost, won: names of tasks that changed sides.
        version: the candidate's, in the registry; activated: the version that was made the active one.
        seconds: step -> by the clock, all tries together.
        head: None: there was no bundle, or nothing new for its head, and nothing to unlearn.
        accepted: whether the adapter goes live; None: nothing was new for it.
    """

    number: int
    step: Step
    began: str
    settings: Settings
    base: str
    until: str
    left_out: dict[str, int]
    new: tuple[str, ...] = ()
    split: Split = field(default_factory=Split)
    saw: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    replayed: int = 0
    restyled: str | None = None
    unclean: tuple[str, ...] = ()
    baseline: str | None = None
    training: Training | None = None
    sets: tuple[SetFigures, ...] = ()
    accepted: bool | None = None
    checks: tuple[Check, ...] = ()
    reasons: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    won: tuple[str, ...] = ()
    leaks: tuple[str, ...] = ()
    gate: GateState = field(default_factory=GateState)
    version: str | None = None
    activated: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    ended: str | None = None
    head: HeadNight | None = None
    augmented: tuple[Augmented, ...] = ()

    @property
    def name(self) -> str:
        """As the gate and the reports call it."""
        return f"night-{self.number:04}"

    @property
    def judged(self) -> bool:
        """Whether there was enough for the gate to say something, before a training or after it."""
        return any(check.id.startswith("gate.") for check in self.checks)


def folder_of(store: Path, number: int) -> Path:
    return store / NIGHTS / f"{number:04}"


def write_night(store: Path, night: Night) -> None:
    """Replace a night's state."""
    write_json(folder_of(store, night.number) / STATE_FILE, {"schema": SCHEMA, **finite(asdict(night))})


def read_night(path: Path) -> Night:
    """Read a state.

    Raises:
        DataError: it is none.
    """
    content = read_json_object(path, MAX_BYTES)
    if content.get("schema") != SCHEMA:
        raise DataError(
            f"{path}: must be of schema {SCHEMA}, is of {str(content.get('schema'))[:20]};"
            " a later version of this program may know it"
        )
    night = from_json(Night, content, str(path))
    if f"{night.number:04}" != path.parent.name:
        raise DataError(f"{path}: must be of night {path.parent.name}, is of {night.number}")
    return night


def read_nights(store: Path) -> list[Night]:
    """All nights of a store, oldest first.

    Raises:
        DataError: one is damaged.
    """
    return [read_night(folder / STATE_FILE) for folder in _folders(store)]


def _folders(store: Path) -> Iterator[Path]:
    root = store / NIGHTS
    if root.is_dir():
        for folder in sorted(root.iterdir(), key=lambda f: (len(f.name), f.name)):
            if _NAME.fullmatch(folder.name) and (folder / STATE_FILE).is_file():
                yield folder


def discard(store: Path, number: int) -> None:
    """Take back a night that was not finished; a kill leaves all of it, or nothing that counts."""
    aside = store / NIGHTS / DISCARDED
    shutil.rmtree(aside, ignore_errors=True)
    folder = folder_of(store, number)
    if folder.exists():
        folder.rename(aside)
        sync_folder(aside.parent)
        shutil.rmtree(aside)


def sweep(store: Path) -> None:
    """Remove what a kill left of nights that do not count."""
    root = store / NIGHTS
    shutil.rmtree(root / DISCARDED, ignore_errors=True)
    if root.is_dir():
        for folder in root.iterdir():
            if _NAME.fullmatch(folder.name) and not (folder / STATE_FILE).exists():
                shutil.rmtree(folder)


def versions_that_saw(nights: Sequence[Night], forgotten: frozenset[str]) -> list[str]:
    """Versions of adapter and head, oldest first, that learned from a turn that was forgotten."""
    made = [(one.version, one.saw) for night in nights for one in (night, night.head) if one is not None]
    return [version for version, saw in made if version and forgotten & set(saw)]
