"""What was learned becomes versions, and those that were accepted go live: adapter and head in one step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_sim.companion.log import read_events
from device_sim.night.data import collect
from device_sim.night.desk import Desk
from device_sim.night.state import CANDIDATE_FILE, HEAD_FILE, HeadNight, Night, SetFigures
from personality_common.evidence.claims import Check, within
from personality_common.registry.identity import Identity
from personality_common.registry.record import Gate, Record, now
from personality_common.registry.registry import Registry
from personality_common.registry.together import activate_together

if TYPE_CHECKING:
    from grpo.head import Head

FORGOTTEN_SINCE = "something that it learned from was forgotten while the night was stopped"


def keep_candidate(path: Path, head: Head | None) -> None:
    """Keep the night's head until it is a version; None: there is none, nor that of an earlier try."""
    if head is None:
        path.unlink(missing_ok=True)
        return
    from personality_common.contract import HEAD_PARAMETERS
    from personality_common.files.tensors import save_tensors

    save_tensors(path, dict(zip(HEAD_PARAMETERS, head, strict=True)))


def register(night: Night, desk: Desk) -> Night:
    """Candidates become versions; an adapter that was refused, too, which cannot be activated.

    A head that is refused is none: its learner makes none before its gate is open.
    """
    if night.training is not None:
        night = replace(night, version=_adapter(night, desk))
    if night.head is not None and (desk.folder / HEAD_FILE).exists():
        night = replace(night, head=replace(night.head, version=_head(night, night.head, desk)))
    return night


def _adapter(night: Night, desk: Desk) -> str:
    if (known := _registered(desk.registry, night)) is not None:
        return known
    base = night.baseline if night.baseline is not None else desk.shipped
    record = _record(
        night, desk.registry.pointers().identity, desk.shipped, night.checks,
        {"seed": night.settings.seed, "replayed": night.replayed, "compared with": base},
        {_named(figure): figure.before for figure in night.sets},
        {_named(figure): figure.after for figure in night.sets},
    )  # fmt: skip
    return desk.registry.add(desk.engine.value(desk.folder / CANDIDATE_FILE), record)


def _named(figure: SetFigures) -> str:
    """By the set's name; of what a night held out, the same each night, so that versions can be compared."""
    return "held_out" if figure.kind == "target" else figure.name


def _head(night: Night, told: HeadNight, desk: Desk) -> str:
    from device_sim.heads.heads import HEAD_FILE as OF_VERSION

    heads = desk.heads
    assert heads is not None
    if (known := _registered(heads, night)) is not None:
        return known
    record = _record(
        night, heads.pointers().identity, _first(heads), told.checks,
        {"reactions": told.reactions, "nights": told.nights, "compared with": told.baseline},
        {} if told.rewards is None else {"reward_mean": told.rewards},
        {"kl_shipped": told.kl, "overlap_shipped": told.overlap, "wealth": told.wealth},
    )  # fmt: skip
    return heads.add(heads.codec.read({OF_VERSION: desk.folder / HEAD_FILE}), record)


def _record(
    night: Night,
    identity: Identity,
    shipped: str,
    checks: Sequence[Check],
    settings: dict[str, Any],
    before: dict[str, float],
    after: dict[str, float],
) -> Record:
    gates = tuple(Gate(c.name, not c.failed, c.against) for c in checks)
    return Record(identity, now(), (shipped,), settings, {"night": _mark(night)}, before, after, gates)


def _mark(night: Night) -> str:
    return f"{night.name} {night.began}"


def _registered(registry: Registry[Any], night: Night) -> str | None:
    """The night's version, if a kill came after it was added."""
    for version in registry.versions():
        if version.stored and version.stored.record.data.get("night") == _mark(night):
            return version.version
    return None


def activate(night: Night, desk: Desk) -> Night:
    """What was accepted goes live in one step; what saw what was forgotten cannot any more."""
    forgotten = collect(read_events(desk.store.events), night.settings.user).forgotten
    unclean = list(night.unclean)
    if gone := forgotten & set(night.saw):
        unclean += [night.version] if night.version else []
        if night.accepted:
            night = refused(night, "night.forgotten", len(gone), 0, FORGOTTEN_SINCE)
    head = night.head
    if head is not None and (gone := forgotten & set(head.saw)):
        unclean += [head.version] if head.version else []
        if head.accepted:
            check = _extra("night.forgotten", len(gone), 0)
            head = replace(
                head, accepted=False, checks=(*head.checks, check), reasons=(*head.reasons, FORGOTTEN_SINCE)
            )
            night = replace(night, head=head)
    adapter = night.version if night.accepted else None
    ways = [(desk.registry, _target(desk.registry, adapter, unclean))]
    if desk.heads is not None:
        made = (head.version or _first(desk.heads)) if head is not None and head.accepted else None
        ways.append((desk.heads, _target(desk.heads, made, unclean)))
    if turning := [(registry, version) for registry, version in ways if version != registry.active]:
        activate_together(turning)
    for registry, _ in ways:
        for version in unclean:
            if version.startswith(registry.codec.letter):
                registry.block(version, "it learned from what was forgotten")
    if head is not None and desk.heads is not None:
        head = replace(head, activated=desk.heads.active)
    return replace(night, activated=desk.registry.active, unclean=tuple(unclean), head=head)


def _target(registry: Registry[Any], accepted: str | None, unclean: Sequence[str]) -> str:
    """The version that is to be active: what was accepted, or what is, unless it must not be."""
    active = registry.active
    return accepted if accepted is not None else _first(registry) if active in unclean else active


def _first(registry: Registry[Any]) -> str:
    """The version that nothing was learned for."""
    return registry.versions()[0].version


def refused(night: Night, id: str, measured: float, limit: float, why: str) -> Night:
    """A night whose adapter is refused for another reason than the gate's."""
    check = _extra(id, measured, limit)
    return replace(night, accepted=False, checks=(*night.checks, check), reasons=(*night.reasons, why))


def _extra(id: str, measured: float, limit: float) -> Check:
    name = "examples enough to judge by" if id == "night.examples" else "nothing forgotten since"
    return within(id, name, measured, ">=" if id == "night.examples" else "<=", limit)
