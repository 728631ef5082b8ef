"""A conversation that goes on as long as there is somebody to talk."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from personality_common.endpoint.model import End, Message, Model, Request, RequestError, Stop, Text


class Talk:
    """What was said so far, and the model that it is said to.

    Attributes:
        variant: of the model, "" for the plain one; may be set between turns.
        forgotten: messages that no longer fit into the model's context.
    """

    def __init__(self, model: Model, system: str = "", variant: str = "") -> None:
        self._model = model
        self._told = (Message("system", system),) if system else ()
        self._said: list[Message] = []
        self.variant = variant
        self.forgotten = 0

    def answer(self, text: str) -> Generator[str, None, None]:
        """What the model answers, in pieces. What was said stays said where the generator is closed early.

        Raises:
            RequestError: the text alone is too long for the model.
        """
        self._said.append(Message("user", text))
        said: list[str] = []
        try:
            for piece in self._pieces():
                said.append(piece)
                yield piece
        finally:
            if said:
                self._said.append(Message("assistant", "".join(said)))
            else:
                self._said.pop()

    def start_anew(self) -> None:
        """Forget all but what the model is told first."""
        self._said.clear()

    def _pieces(self) -> Generator[str, None, None]:
        while True:
            request = Request(self.variant, (*self._told, *self._said))
            with contextlib.closing(self._model.stream(request, Stop())) as pieces:
                try:
                    first = next(pieces, End("stop"))
                except RequestError as error:
                    if error.code != "context_length_exceeded" or len(self._said) == 1:
                        raise
                    # A question goes with its answer, if it has one.
                    gone = 2 if len(self._said) > 1 and self._said[1].role == "assistant" else 1
                    del self._said[:gone]
                    self.forgotten += gone
                    continue
                if isinstance(first, Text):
                    yield first.text
                for piece in pieces:
                    if isinstance(piece, Text):
                        yield piece.text
            return
