"""The filter between what was said and what is kept."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from personality_common.errors import ConfigError, ToolkitError

from .findings import LIMITS, Finding, merged

Mode = Literal["mask", "drop", "off"]
MODES: Final = get_args(Mode)
PACKAGES: Final = ("detect_secrets", "glin_profanity")
"""Of the extra `companion`, and imported when something is looked for."""
WINDOW: Final = 4_096
"""Code points that the rules see at once, so that the time grows with the length and not with its square."""
OVERLAP: Final = 1_024
"""Of one window with the next: longer findings may be cut where a window ends."""


@dataclass(frozen=True)
class Redaction:
    """What may be kept of a text.

    Attributes:
        text: with `[kind]` where something was found that does not stay; "" where the turn is dropped.
        counts: findings by kind, those that stay too: all that is logged of them.
        dropped: the turn is not kept.
    """

    text: str
    counts: dict[str, int]
    dropped: bool


class Filter:
    """Finds e-mail and postal addresses, phone, card, account and social security numbers, IP addresses,
    dates of birth, names, passwords and keys, and obscenities.

    Names and obscenities are found and counted, and stay: who cannot keep "my cat is called Mia" remembers
    nothing. What has one is to be kept out of training, or of memory too, by the tags of `LIMITS`, which is
    the caller's to do.

    No rule asks a network. What it misses, docs/companion-privacy.md says by kind.
    """

    def __init__(self, mode: Mode) -> None:
        """
        Args:
            mode: `mask` puts `[kind]` in the place of a finding, `drop` keeps nothing of a text with one,
                both but for what stays; `off` looks for nothing.

        Raises:
            ConfigError: another mode.
            ToolkitError: a package that the rules need is not installed.
        """
        if mode not in MODES:
            raise ConfigError(f"--redact must be one of {', '.join(MODES)}, is {mode!r}")
        # Before a word is said: a message that cannot be filtered is not kept, nor answered.
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if missing and mode != "off":
            raise ToolkitError(
                f"the privacy filter needs {', '.join(missing)}; pip install 'personality-toolkit[companion]'"
            )
        self.mode = mode

    def redact(self, text: str) -> Redaction:
        """What may be kept of a text."""
        if self.mode == "off":
            return Redaction(text, {}, False)
        findings = self.find(text)
        counts = dict(sorted(Counter(one.kind for one in findings).items()))
        masked = [one for one in findings if one.kind not in LIMITS]
        if masked and self.mode == "drop":
            return Redaction("", counts, True)
        pieces: list[str] = []
        at = 0
        for one in masked:
            pieces += (text[at : one.start], f"[{one.kind}]")
            at = one.end
        return Redaction("".join(pieces) + text[at:], counts, False)

    def find(self, text: str) -> list[Finding]:
        """Findings in their order; none overlaps another."""
        return merged(_rules(text))


def _rules(text: str) -> Iterator[Finding]:
    # Here, so that `pt --help` compiles no pattern and a chat without a filter imports no detect-secrets.
    from .names import find_names
    from .places import find_places
    from .profanity import find_profanity
    from .secrets import find_private_keys, find_secrets
    from .structured import find_structured

    yield from find_private_keys(text)
    for start, end in _windows(text):
        window = text[start:end]
        for rules in (find_secrets, find_structured, find_places, find_names, find_profanity):
            for one in rules(window):
                yield Finding(one.kind, one.start + start, one.end + start)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Overlapping windows, cut at white space where there is some."""
    start = 0
    while True:
        end = min(start + WINDOW, len(text))
        if end == len(text):
            yield start, end
            return
        yield start, end
        start = _word_start(text, end - OVERLAP)


def _word_start(text: str, at: int) -> int:
    for i in range(at, at + OVERLAP // 2):
        if text[i].isspace():
            return i + 1
    return at
