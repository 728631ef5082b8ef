"""Versions of the head, each with a second file beside it, as a gate's state would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from harness import Scenario

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.codec import ADAPTERS
from device_sim.heads.heads import HEAD_FILE, HeadCodec
from grpo.head import Head
from personality_common.errors import ToolkitError
from personality_common.registry.pointers import holds_kind
from personality_common.registry.record import Gate, Record
from personality_common.registry.registry import Registry
from personality_common.registry.together import activate_together, add_kind

torch.set_num_threads(1)

IDENTITY = {"bundle": "b" * 64, "vocabulary": "v" * 64, "encoder": "e" * 64}
State = tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]
"""Active, history, pinned, and all versions."""


class WithState(HeadCodec):
    """A head whose bias lies beside it once more."""

    files: ClassVar[Mapping[str, int]] = {HEAD_FILE: 1 << 20, "state.bin": 1 << 10}

    def write(self, value: Head, folder: Path) -> None:
        super().write(value, folder)
        (folder / "state.bin").write_bytes(value.bias.numpy().tobytes())

    def read(self, files: Mapping[str, Path]) -> Head:
        head = super().read(files)
        assert files["state.bin"].read_bytes() == head.bias.numpy().tobytes()
        return head


def head(seed: int) -> Head:
    draw = torch.Generator().manual_seed(seed)
    return Head(torch.randn(6, 4, generator=draw), torch.randn(6, generator=draw))


def opened(folder: Path) -> Registry[Head]:
    return Registry(folder / "heads", WithState())


def create(folder: Path) -> None:
    Registry.create(folder / "heads", WithState(), IDENTITY, head(0))


def grow(folder: Path) -> None:
    """Five versions, none pinned; the fourth is active, the first three were before it."""
    create(folder)
    store = opened(folder)
    store.unpin(store.active)
    for seed in range(1, 5):
        add(folder, seed)
        store.activate(last(store))
    store.rollback()


def grow_and_kill(folder: Path) -> None:
    """With what a kill in the middle of an addition, of a removal, and of a change of `store.json` leaves."""
    grow(folder)
    versions = folder / "heads" / "versions"
    for name in ("h0006-0123456789ab.partial/new", "h0007-0123456789ab.removed"):
        (versions / f".{name}").mkdir(parents=True)
    (folder / "heads" / ".store.json.abcdefgh.tmp").write_text("{")


def add(folder: Path, seed: int = 9) -> None:
    store = opened(folder)
    record = Record(IDENTITY, "2026-01-02T03:04:05+00:00", (store.active,), gates=(Gate("frozen", True),))
    store.add(head(seed), record)


def change(folder: Path, how: Callable[[Registry[Head]], object]) -> None:
    how(opened(folder))


def last(store: Registry[Head]) -> str:
    return store.versions()[-1].version


def state(folder: Path) -> State | None:
    """Every version is read, to the last byte."""
    if not (folder / "heads").exists():
        return None
    store = opened(folder)
    pointers, versions = store.pointers(), store.versions()
    for line in versions:
        if line.damage is not None:
            raise ToolkitError(line.damage)
        store.load(line.version)
    log = [entry.version for entry in pointers.log]
    assert log[-1] == pointers.active, "the log does not end with what is active"
    return pointers.active, pointers.history, pointers.pinned, tuple(line.version for line in versions)


def again(folder: Path, found: object) -> object:
    """A change of nothing, which clears what a kill left, and must lose nothing with it."""
    if found is None:
        create(folder)
        return state(folder)
    store = opened(folder)
    store.activate(store.active)
    return found


def leftovers(folder: Path) -> list[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    wanted = {"heads", "heads/.lock", "heads/store.json", "heads/versions"}
    for line in opened(folder).versions():
        place = f"heads/versions/{line.version}"
        wanted |= {place, *(f"{place}/{name}" for name in (HEAD_FILE, "state.bin", "record.json"))}
    return sorted(found - wanted)


def adapter(seed: int) -> Adapter:
    draw = np.random.default_rng(seed)
    shapes = {"A": (2, 8), "B": (8, 2)}
    tensors = {
        f"model.layers.0.mlp.up_proj.lora_{side}": draw.normal(size=shape).astype(np.float32)
        for side, shape in shapes.items()
    }
    return Adapter(2, 4.0, "a" * 64, "llama", 2, 1, tensors)


def add_adapters(folder: Path) -> None:
    none = Adapter(1, 1.0, "a" * 64, "llama", 2, 1)
    add_kind(folder / "heads", ADAPTERS, {"base": "a" * 64}, none)


def grow_both(folder: Path) -> None:
    """Heads as `grow` leaves them, and adapters, the second of which passed its gate."""
    grow(folder)
    add_adapters(folder)
    store = Registry(folder / "heads", ADAPTERS)
    record = Record(
        {"base": "a" * 64}, "2026-01-02T03:04:05+00:00", (store.active,), gates=(Gate("gain", True),)
    )
    store.add(adapter(1), record)


def activate_both(folder: Path) -> None:
    heads, adapters = opened(folder), Registry(folder / "heads", ADAPTERS)
    activate_together([(heads, last(heads)), (adapters, adapters.versions()[-1].version)])


def both_states(folder: Path) -> tuple[State | None, str | None]:
    """Of the heads; and the active adapter, read to the last byte."""
    heads = state(folder)
    if not holds_kind(folder / "heads", "adapter"):
        return heads, None
    adapters = Registry(folder / "heads", ADAPTERS)
    for line in adapters.versions():
        adapters.load(line.version)
    return heads, adapters.active


def again_both(folder: Path, found: object) -> object:
    assert isinstance(found, tuple)
    again(folder, found[0])
    if found[1] is None:
        add_adapters(folder)
        return both_states(folder)
    adapters = Registry(folder / "heads", ADAPTERS)
    adapters.activate(adapters.active)
    return found


def leftovers_of_both(folder: Path) -> list[str]:
    wanted = {
        f"heads/versions/{line.version}{name}"
        for line in Registry(folder / "heads", ADAPTERS).versions()
        for name in ("", "/adapter.gguf", "/record.json")
    }
    return sorted(set(leftovers(folder)) - wanted)


def pruning(found: object, before: object, after: object) -> bool:
    """Versions go one by one; whatever is to stay is there, and nothing that is gone is pointed to."""
    assert isinstance(found, tuple)
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    return found[:3] == after[:3] and set(after[3]) <= set(found[3]) <= set(before[3])


def scenario(
    name: str,
    operate: Callable[[Path], None],
    between: Callable[[object, object, object], bool] = lambda found, before, after: False,
) -> Scenario:
    return Scenario(f"registry: {name}", grow, operate, state, again, leftovers, between)


SCENARIOS = [
    Scenario("registry: create", lambda folder: None, create, state, again, leftovers),
    scenario("add", add),
    scenario("activate", partial(change, how=lambda store: store.activate(last(store)))),
    scenario("roll back", partial(change, how=lambda store: store.rollback())),
    Scenario("registry: add after a kill", grow_and_kill, add, state, again, leftovers),
    scenario("pin", partial(change, how=lambda store: store.pin(last(store)))),
    Scenario("registry: add a kind", grow, add_adapters, both_states, again_both, leftovers_of_both),
    Scenario(
        "registry: activate together", grow_both, activate_both, both_states, again_both, leftovers_of_both
    ),
    scenario("prune", partial(change, how=lambda store: store.prune(1)), pruning),
]
