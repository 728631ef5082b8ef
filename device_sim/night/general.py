"""Prompts that are nobody's, with the base model's own answers, which are made once and kept.

Half of them are replayed beside a user's own examples, so that what the model says to them stays; on the
other half a night is measured. None is a task of the capability suite or of the probes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final, Literal, TypeAlias

from device_sim.night.data import Item
from device_sim.night.state import NIGHTS
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object, write_json
from personality_common.files.typed import from_json

PROMPTS: Final = Path(__file__).with_name("general.toml")
GENERAL_FILE: Final = "general.json"
SCHEMA: Final = 1
ANSWER_TOKENS: Final = 48
Form: TypeAlias = Literal["questions", "chat", "tasks"]
FORMS: Final[tuple[Form, ...]] = ("questions", "chat", "tasks")


@dataclass(frozen=True)
class General:
    """A prompt of nobody's.

    Attributes:
        form: a short question, talk, or something to be done in a form that is given.
        held_out: it is never trained.
    """

    form: Form
    said: str
    held_out: bool


def prompts() -> list[General]:
    """All of them; of each form every other one is held out, for good."""
    content = tomllib.loads(PROMPTS.read_text(encoding="utf-8"))
    return [General(form, said, i % 2 == 0) for form in FORMS for i, said in enumerate(content[form])]


def restyled(items: Sequence[Item]) -> Form | None:
    """The form that most of a user's own examples have: the base's answers to it would contradict them.

    None where there are none: a night of facts contradicts neither.
    """
    forms = [form_of(item.said) for item in items if item.kind == "chat"]
    most: Form = max(FORMS, key=forms.count)
    return most if forms else None


def form_of(said: str) -> Form:
    """Of a user's own message; what is to be done in a given form cannot be told from talk."""
    return "questions" if said.rstrip().endswith("?") else "chat"


def replayed(without: Form | None, reads: bool = False) -> list[str]:
    """Prompts that are replayed, of the forms that are left.

    Args:
        reads: the night teaches to answer from memories, and would have what they do not answer be
            answered in their form: distress, what nobody can know, what is better refused. These take the
            place of every other prompt.
    """
    kept = [p.said for p in prompts() if p.form != without and not p.held_out]
    return [*kept[::2], *care()] if reads else kept


def care() -> list[str]:
    """Talk of distress and danger, of what nobody can know, of what is better refused; none is held out."""
    return list(tomllib.loads(PROMPTS.read_text(encoding="utf-8"))["care"])


def held_out(without: Form | None, most: int) -> list[str]:
    """Prompts to measure on, of the forms that are left."""
    kept = [[p.said for p in prompts() if p.form == form and p.held_out] for form in FORMS if form != without]
    return [said for row in zip_longest(*kept) for said in row if said][:most]


@dataclass(frozen=True)
class _Kept:
    """Answers of a base, by prompt."""

    base: str
    answers: dict[str, str]


def answered(
    store: Path, base: str, wanted: Sequence[str], answer: Callable[[Sequence[str]], list[str]]
) -> dict[str, str]:
    """Prompt -> what the base answers; from the store where it has been asked before.

    Args:
        base: SHA-256 of the model's file.
        answer: asks the base model, greedily.
    """
    path = store / NIGHTS / GENERAL_FILE
    known = _read(path, base)
    if new := [said for said in dict.fromkeys(wanted) if said not in known]:
        known |= dict(zip(new, answer(new), strict=True))
        write_json(path, {"schema": SCHEMA, "base": base, "answers": known})
    return {said: known[said] for said in wanted if known[said].strip()}


def _read(path: Path, base: str) -> dict[str, str]:
    if not path.exists():
        return {}
    content = read_json_object(path)
    if content.get("schema") != SCHEMA:
        raise DataError(f"{path}: must be of schema {SCHEMA}, is not; remove it, and it is made anew")
    kept = from_json(_Kept, content, str(path))
    return kept.answers if kept.base == base else {}
