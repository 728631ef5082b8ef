"""What the steps of a night work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from device_sim.companion.log import read_events
from device_sim.companion.store import Store
from device_sim.night.data import Collected, Item, collect
from device_sim.night.engine import Engine, Prompted, Said
from device_sim.night.general import ANSWER_TOKENS, Form, answered, held_out, replayed
from device_sim.night.listening import Listener, heads_of
from device_sim.night.measuring import GENERAL, SHORT, SHORT_GENERAL, Plan, suites
from device_sim.night.reading import beside, in_vain, readings
from device_sim.night.recalling import recalled
from device_sim.night.state import Night, folder_of, read_nights
from personality_common.errors import MismatchError
from personality_common.registry.registry import Registry
from personality_common.terminal.progress import Reporter

READINGS: Final = 48
"""Questions of invented people in a night that has facts."""


def replays(
    form: Form | None, reads: bool, seed: int, answered: Callable[[list[str]], Mapping[str, str]]
) -> list[Said]:
    """What a night holds the model to.

    Args:
        form: of the prompts of nobody's, that is left out.
        reads: the night teaches to answer from memories: the prompts are read beside such, too, and so are
            questions that these do not answer.
        answered: prompt -> what the base says to it, alone; one that it says nothing to is left out.
    """
    wanted, near = replayed(form, reads), in_vain(seed) if reads else []
    told = answered([*wanted, *(one.text for one in near)])
    alone = [(Prompted(said), told[said]) for said in wanted if said in told]
    if not reads:
        return alone
    return [*alone, *beside(alone, seed), *((one, told[one.text]) for one in near if one.text in told)]


@dataclass
class Desk:
    """A night's store, model and data; all but `reporter` is read, and nothing is kept here.

    Attributes:
        number: of the night.
        listener: None: no bundle is given.
    """

    store: Store
    engine: Engine
    number: int
    user: str
    until: str
    reporter: Reporter
    listener: Listener | None = None

    @property
    def path(self) -> Path:
        return self.store.path

    @property
    def folder(self) -> Path:
        return folder_of(self.path, self.number)

    @cached_property
    def others(self) -> list[Night]:
        """Nights before this one."""
        return [night for night in read_nights(self.path) if night.number < self.number]

    @cached_property
    def data(self) -> Collected:
        return collect(read_events(self.store.events), self.user, self.until)

    @cached_property
    def items(self) -> Mapping[str, Item]:
        return {item.id: item for item in self.data.items}

    def chosen(self, ids: Sequence[str]) -> list[Item]:
        """Items by id; one that is gone since is not among them."""
        return [self.items[id] for id in ids if id in self.items]

    @cached_property
    def registry(self) -> Registry[Any]:
        made = self.engine.registry(self.path, create=True)
        assert made is not None
        theirs = made.pointers().identity.get("base", "")
        if theirs != self.engine.base:
            raise MismatchError(
                f"{made.path}: its adapters must be of the model's file {self.engine.base[:12]}, are of"
                f" {theirs[:12]}; name that model with --model, or move the folder away"
            )
        return made

    @cached_property
    def heads(self) -> Registry[Any] | None:
        """Versions of the head; None: there are none, and no bundle to make them of."""
        return heads_of(self.registry.path, self.listener)

    @cached_property
    def shipped(self) -> str:
        """The version that nothing was learned for: no adapter."""
        return self.registry.versions()[0].version

    def file(self, version: str | None) -> Path | None:
        """The adapter's file; None for what shipped, which is the base alone."""
        if version is None or version == self.shipped:
            return None
        return self.registry.path / "versions" / version / self.registry.codec.itself

    def target(self, night: Night) -> list[Item]:
        """What the candidate must be better on: what tonight holds out, and new facts in untrained wordings.

        When what is active saw what was forgotten, all that was ever held out: the candidate starts from the
        base, and has to show again what the other had shown.
        """
        unlearning = self.registry.active in night.unclean
        parts, new = night.split, set(night.new)
        chats = (*parts.held_out, *parts.earlier) if unlearning else parts.held_out
        facts = [i for i in self.chosen(parts.recall) if unlearning or i.id in new]
        return [*self.chosen(chats), *facts]

    def plan(self, night: Night) -> Plan:
        """What is measured before and after."""
        target = self.target(night)
        now = {item.id for item in target}
        earlier: dict[str, list[Item]] = {}
        for other in self.others:
            then = [*other.split.held_out, *(id for id in other.split.recall if id in other.new)]
            if found := [i for i in self.chosen(then) if i.id not in now]:
                earlier[other.name] = found
        short = night.settings.suite == SHORT
        form = night.restyled if night.restyled in ("questions", "chat") else None
        general = self.general(held_out(form, SHORT_GENERAL if short else GENERAL))  # type: ignore[arg-type]
        return Plan(
            night.name, target, earlier, [i for i in target if i.kind == "fact"], general,
            suites(night.settings.suite), self.chosen(night.split.train),
        )  # fmt: skip

    def replay(self, night: Night) -> list[Said]:
        """Prompts of nobody's with the base's own answers; with facts more of them, beside memories, too."""
        form = night.restyled if night.restyled in ("questions", "chat") else None
        reads = any(item.kind == "fact" for item in self.chosen(night.split.train))
        return replays(form, reads, night.settings.seed, self.general)  # type: ignore[arg-type]

    def lessons(self, night: Night, worded: Sequence[Item] = ()) -> list[Said]:
        """What is trained: talk as it was, facts alone and as they are asked, and how memories are read.

        Args:
            worded: further questions about its facts.
        """
        items = [*self.chosen(night.split.train), *worded]
        found: list[Said] = []
        for item, asked in zip(items, recalled(items, items, self.engine.embed), strict=True):
            found.append((asked, item.answer))
            if item.kind == "fact":
                found.append((Prompted(item.said), item.answer))
        reads = any(item.kind == "fact" for item in items)
        return found + (readings(READINGS, night.settings.seed) if reads else [])

    def general(self, wanted: list[str]) -> dict[str, str]:
        def ask(said: Sequence[str]) -> list[str]:
            return self.engine.answers(None, [Prompted(one) for one in said], ANSWER_TOKENS)

        return answered(self.path, self.engine.base, wanted, ask)
