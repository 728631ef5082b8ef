"""Text leaves this machine only after a word about it; nothing that came from outside can make it leave."""

from __future__ import annotations

import os
import re
from pathlib import Path

from personality_common.errors import ToolkitError
from personality_common.terminal.progress import Reporter
from personality_common.text.identity import Encoder, EncoderIdentity

ALLOW = "--allow-remote-encoder"


def remember_run(fingerprint: str) -> None:
    """Note that a run was made here, by its fingerprint; where no note can be kept, it will be asked for."""
    try:
        _notes().mkdir(mode=0o700, parents=True, exist_ok=True)
        (_notes() / fingerprint).touch(mode=0o600)
    except OSError:
        pass


def require_consent(fingerprint: str, encoder: EncoderIdentity, what: Path, allowed: bool) -> None:
    """Refuse to send texts for a run, or a bundle of it, that was not made here.

    Args:
        fingerprint: of the run.
        what: the folder that names the encoder.
        allowed: the user said so.

    Raises:
        ToolkitError: the encoder is hosted, and neither holds.
    """
    known = re.fullmatch("[0-9a-f]{64}", fingerprint) and (_notes() / fingerprint).is_file()
    if not encoder.weights_sha256 and not allowed and not known:
        raise ToolkitError(
            f"{what}: was not made here, and its encoder {encoder.name[:80]!r} is hosted: every text would "
            f"leave this machine; {ALLOW} sends them"
        )


def tell(encoder: Encoder, reporter: Reporter) -> None:
    """Warn where texts are about to be sent away."""
    if not encoder.identity.weights_sha256:
        reporter.warn(f"every text leaves this machine: it is sent to {encoder.source}")


def _notes() -> Path:
    """A file for each run made here, named by its fingerprint."""
    state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111
    return Path(state) / "personality-toolkit" / "runs"
