"""A model's own chat template, rendered over stand-ins for the texts and cut apart there.

What the template wrote may be special tokens, what a text says may not: so the two are tokenized apart.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TypeAlias

from device_sim.companion.models.model import Message
from personality_common.errors import DataError, ToolkitError

Render: TypeAlias = Callable[[list[dict[str, str]]], str]
"""Messages as `{"role", "content"}` -> the prompt up to where the answer begins; ToolkitError: refused."""


class Template:
    """Where a template puts the texts of messages.

    Attributes:
        system: what it says in the place of a system prompt where there is none; None: nothing, or it knows
            no system prompt.
    """

    def __init__(self, render: Render, where: str, *, takes_system: bool) -> None:
        """
        Args:
            where: the model, for messages.
            takes_system: has that role; without it, the first user turn begins with the system prompt.
        """
        self._render, self._where, self._takes_system = render, where, takes_system
        self.system = self._default_system() if takes_system else None

    def cut(self, messages: Sequence[Message]) -> tuple[list[str], list[str]]:
        """What the template writes before, between and behind the texts (N + 1), and the texts (N).

        Raises:
            DataError: it does not show each message once, in order, or refuses their roles.
        """
        shown = list(messages) if self._takes_system else _without_system(messages)
        mark = f"text{secrets.token_hex(8)}"
        names = [f"{mark}n{i}n" for i in range(len(shown))]
        stand_ins = [{"role": m.role, "content": n} for m, n in zip(shown, names, strict=True)]
        try:
            prompt = self._render(stand_ins)
        except ToolkitError as error:
            raise DataError(f"{self._where}: its chat template must take the messages: {error}") from None
        written: list[str] = []
        for name in names:
            before, found, prompt = prompt.partition(name)
            if not found or mark in before or name in prompt:
                raise DataError(f"{self._where}: its chat template must show each message once, in order")
            written.append(before)
        return [*written, prompt], [message.text.strip() for message in shown]

    def _default_system(self) -> str | None:
        mark = f"text{secrets.token_hex(8)}"
        user = {"role": "user", "content": f"{mark}user"}
        without = self._render([user])
        before, _, after = self._render([{"role": "system", "content": mark}, user]).partition(mark)
        if not without.startswith(before) or not without.endswith(after):
            return None
        return without[len(before) : len(without) - len(after)].strip() or None


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """For a template without that role: the first user turn begins with it."""
    if not messages or messages[0].role != "system":
        return list(messages)
    system, *rest = messages
    if not rest:
        return [Message("user", system.text)]
    return [Message("user", f"{system.text}\n\n{rest[0].text}"), *rest[1:]]
