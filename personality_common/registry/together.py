"""Several kinds in one store: a second one beside the first, and versions made active in one step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from personality_common.errors import ConfigError
from personality_common.registry.codec import Codec
from personality_common.registry.identity import Identity
from personality_common.registry.pointers import STORE_FILE, read_kinds, write_pointers
from personality_common.registry.registry import Registry, first_pointers, held
from personality_common.registry.versions import Versions

T = TypeVar("T")


def add_kind(path: Path, codec: Codec[T], identity: Identity, shipped: T) -> Registry[T]:
    """Make versions of a kind in a new folder, or in a store that has other kinds.

    A kill leaves the store without the kind, and the next call makes it.

    Raises:
        ConfigError: the store has this kind; or the folder has something else in it.
        DataError: it is a damaged store.
        ToolkitError: another process is changing it.
    """
    if not (path / STORE_FILE).is_file():
        return Registry.create(path, codec, identity, shipped)
    with held(path):
        kinds, _ = read_kinds(path, codec)
        if codec.kind in kinds:
            raise ConfigError(f"{path}: has {codec.kind}s already; pt {codec.kind}s list shows them")
        versions = Versions(path, codec)
        versions.sweep()
        for unfinished in versions.names():
            versions.remove(unfinished)
        write_pointers(path, {**kinds, codec.kind: first_pointers(versions, codec, identity, shipped)})
    return Registry(path, codec)


def activate_together(versions: Sequence[tuple[Registry[Any], str]]) -> None:
    """Make one version of each kind active: all of them or, whatever happens, none.

    Args:
        versions: registries of one folder, each of another kind, and the id of a version.

    Raises:
        ToolkitError: as `Registry.activate`, of any of them; nothing has changed.
        ValueError: they are of several folders, or two of one kind.
    """
    registries = [registry for registry, _ in versions]
    kinds = [registry.codec.kind for registry in registries]
    if len({registry.path.resolve() for registry in registries}) != 1 or len({*kinds}) < len(kinds):
        raise ValueError(f"must be of one folder, each of another kind, got {kinds}")
    first = registries[0]
    with first.change():
        turned = {registry.codec.kind: registry.turned_to(version) for registry, version in versions}
        before, _ = read_kinds(first.path, first.codec)
        if {**before, **turned} != before:
            write_pointers(first.path, {**before, **turned})
