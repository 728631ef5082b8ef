"""What a long job says while it works; libraries speak to a Reporter and never print."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol


class Stage(Protocol):
    """A counted piece of work under way."""

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        """`done` more items are finished; figures (already formatted) describe the newest."""
        ...


class Reporter(Protocol):
    """Listens to a job."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Stage]:
        """A piece of work of `total` items begins."""
        ...

    def say(self, message: str) -> None:
        """Something that a person should read once."""
        ...

    def warn(self, message: str) -> None:
        """Something that a person should not miss."""
        ...


class Silent:
    """A Reporter that nobody listens to."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Stage]:
        return nullcontext(self)

    def advance(self, done: int, figures: Mapping[str, str] | None = None) -> None:
        pass

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT: Final = Silent()
"""For callers that want the result alone."""
