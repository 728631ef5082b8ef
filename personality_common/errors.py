"""Errors that a user can act on."""

from __future__ import annotations

import re
from typing import Final

from personality_common.printable import EXCERPT

_QUOTED: Final = re.compile(r"""(?<!\w)(['"])((?:\\.|(?!\1)[^\\\n])*)\1(?!\w)""")
"""As `repr` does."""
_WORD: Final = re.compile(r"[^\s/]{256,}")
"""No file has so long a name, so it is none of a path's."""


class ToolkitError(Exception):
    """Something the user can mend: a bad file, a mismatch, a missing package.

    The message is one line: the invariant, what arrived (file, line, key, shape), and what to do. `pt`
    prints it to stderr and exits with 4; anything else is a defect of ours. Of what it quotes as `repr`
    does, and of a word, 200 characters stay.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_WORD.sub(lambda word: _shortened(word[0]), _QUOTED.sub(_cut, str(message))))


class ConfigError(ToolkitError):
    """An option's value is out of range; `pt` exits with 2, as for any wrong usage."""


class DataError(ToolkitError):
    """A file that came in is malformed, truncated, or breaks a limit; `pt` exits with 3."""


class MismatchError(ToolkitError):
    """Two artifacts that do not belong together: vocabulary, encoder, bundle, run; `pt` exits with 3."""


def _cut(quoted: re.Match[str]) -> str:
    mark, text = quoted.groups()
    return quoted[0] if len(text) <= EXCERPT else f"{mark}{_shortened(text)}{mark}"


def _shortened(text: str) -> str:
    return f"{text[: EXCERPT - 40]}… ({len(text):,} characters)"
