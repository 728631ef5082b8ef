"""What a package may be made for: the least iOS, and the precision of its weights and arithmetic."""

from __future__ import annotations

from typing import Final, Literal, get_args

Target = Literal["iOS17", "iOS18"]
Precision = Literal["float32", "float16"]
TARGETS: Final = get_args(Target)
PRECISIONS: Final = get_args(Precision)
