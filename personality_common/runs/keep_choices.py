"""What `--keep` takes; apart from what does it, which needs torch."""

from __future__ import annotations

from typing import Final, Literal, get_args

Keep = Literal["best", "last"]
KEEP_CHOICES: Final = get_args(Keep)
