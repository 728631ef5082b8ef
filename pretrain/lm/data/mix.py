"""The mix file: what a language model is trained with, and how much of it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

from personality_common.errors import DataError
from personality_common.files.bounded import read_bounded
from personality_common.files.typed import from_json
from pretrain.data.sources import HUB_PREFIX
from pretrain.lm.chat import LossConfig

DEMO_MIX: Final = Path(__file__).with_name("demo.toml")
"""Generated documents alone: it needs no file and no network."""
MAX_FILE_BYTES: Final = 1 << 20
MOST_WEIGHT: Final = 100.0
OUR_LICENCE: Final = "Apache-2.0"
"""Of what is generated: the project's."""

Kind = Literal["corpus", "tools", "perspectives", "reasoning", "self-description"]
KINDS: Final = get_args(Kind)
_FIELD: Final = "field:"
_ONLY_CORPUS: Final = ("path", "group", "loss", "held_out", "skip_bad_records")


@dataclass(frozen=True)
class SplitConfig:
    """What is kept from training.

    Attributes:
        validation, test: shares of the groups, or of what is generated.
        most: documents of a source in validation, and in test, at most; those beyond are left out.
    """

    validation: float = 0.05
    test: float = 0.05
    most: int = 1_000

    def __post_init__(self) -> None:
        total = self.validation + self.test
        if min(self.validation, self.test) < 0 or total > 0.5:
            raise ValueError(f"validation and test must be 0 or more and at most 0.5 together, are {total:g}")
        if self.most < 1:
            raise ValueError(f"most must be 1 or more, is {self.most}")


@dataclass(frozen=True)
class SourceConfig:
    """One source.

    Attributes:
        name: lower case; documents carry it.
        kind: corpus: files or a hub dataset; or what is generated.
        path: of a corpus: a file, a folder (beside the mix file unless absolute), or `hf:OWNER/NAME`.
        licence: as SPDX has it; needed for a corpus.
        documents: to generate; of a corpus, the most to read.
        weight: how often a training document is written: 2 is twice, 0.5 half of them.
        group: what is never on both sides of the split: each record, each file, or all records with the same
            `field:NAME`.
        loss: in conversations, whether the model learns what the assistant says, or all.
        held_out: whether the split takes any of it; what is generated decides for itself.
        skip_bad_records: count malformed records and go on, instead of stopping at the first.
        exclude: ids of documents to leave out.
        assistant: self-description: what the model calls itself.
    """

    name: str
    kind: Kind
    path: str | None = None
    licence: str | None = None
    documents: int | None = None
    weight: float = 1.0
    group: str = "record"
    loss: Literal["assistant", "all"] = "assistant"
    held_out: bool = True
    skip_bad_records: bool = False
    exclude: tuple[str, ...] = ()
    assistant: str = "Codette"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", self.name):
            raise ValueError(f"name must be of lower-case letters, digits, - and _, is {self.name!r}")
        if not 0 < self.weight <= MOST_WEIGHT:
            raise ValueError(f"weight must be above 0 and at most {MOST_WEIGHT:g}, is {self.weight:g}")
        if self.documents is not None and self.documents < 1:
            raise ValueError(f"documents must be 1 or more, is {self.documents}")
        if self.assistant != "Codette" and self.kind != "self-description":
            raise ValueError(f"assistant is for self-description, this is {self.kind}")
        if not self.assistant.strip():
            raise ValueError("assistant must be a name, is blank")
        if self.kind == "corpus":
            self._check_corpus()
            return
        default = {one.name: one.default for one in fields(self)}
        for key in _ONLY_CORPUS:
            if getattr(self, key) != default[key]:
                raise ValueError(f"{key} is for a corpus, this is {self.kind}")
        if self.documents is None:
            raise ValueError(f"documents must say how many {self.kind} to generate, is missing")

    def _check_corpus(self) -> None:
        if not self.path:
            raise ValueError("path must name a file, a folder or hf:OWNER/NAME, is missing")
        if not self.licence:
            raise ValueError("licence must say under which one the corpus may be used, is missing")
        grouped = self.group in ("record", "file") or (
            self.group.startswith(_FIELD) and len(self.group) > len(_FIELD)
        )
        if not grouped:
            raise ValueError(f"group must be record, file or {_FIELD}NAME, is {self.group!r}")

    @property
    def group_field(self) -> str | None:
        """The field of a record that names its group; None where none does."""
        return self.group.removeprefix(_FIELD) if self.group.startswith(_FIELD) else None

    @property
    def under(self) -> str:
        """The licence."""
        return self.licence or OUR_LICENCE


@dataclass(frozen=True)
class Mix:
    """A mix file.

    Attributes:
        version: of its format.
        sources: in order; of two documents that say the same, the first stays.
        seed: of what is generated, and of the order.
        split: what is kept from training.
        loss: how much tokens count in training.
    """

    version: Literal[1]
    sources: tuple[SourceConfig, ...]
    seed: int = 0
    split: SplitConfig = SplitConfig()
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if not names:
            raise ValueError("sources must be one or more, there is none")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each source must have a name of its own, {twice[0]!r} is there twice")


@dataclass(frozen=True)
class MixFile:
    """A mix, the folder that its paths are relative to, and the SHA-256 of the file in hex."""

    mix: Mix
    folder: Path
    sha256: str

    def place(self, source: SourceConfig) -> str:
        """Where a corpus is, as `pretrain.data.sources.open_source` takes it."""
        assert source.path
        return source.path if source.path.startswith(HUB_PREFIX) else str(self.folder / source.path)


def read_mix(path: Path) -> MixFile:
    """Read a mix file.

    Raises:
        DataError: no such file, not TOML, a key that no mix has, or a value that none may have.
    """
    data = read_bounded(path, MAX_FILE_BYTES, "a mix file")
    try:
        value = tomllib.loads(data.decode())
    except ValueError as error:
        raise DataError(f"{path}: not TOML: {error}") from None
    _refuse_unknown(Mix, value, "", path)
    _refuse_unknown(SplitConfig, value.get("split"), "split.", path)
    _refuse_unknown(LossConfig, value.get("loss"), "loss.", path)
    sources = value.get("sources")
    for index, source in enumerate(sources if isinstance(sources, list) else ()):
        _refuse_unknown(SourceConfig, source, f"sources[{index}].", path)
    return MixFile(from_json(Mix, value, str(path)), path.parent, hashlib.sha256(data).hexdigest())


def _refuse_unknown(config: type, value: Any, at: str, path: Path) -> None:
    """A key that was mistyped would do nothing, and say nothing."""
    known = [one.name for one in fields(config)]
    for key in value if isinstance(value, dict) else ():
        if key not in known:
            raise DataError(f"{path}: {at}{key} is no key of a mix; keys are {', '.join(known)}")
