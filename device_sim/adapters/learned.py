"""What a companion learned: `STORE/learned`, one registry of adapters, and of heads where it reads moods."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from device_sim.adapters.adapter import ARCHITECTURE, Adapter
from device_sim.adapters.codec import ADAPTER_FILE, ADAPTERS
from personality_common.errors import DataError
from personality_common.files.atomic import file_sha256
from personality_common.registry.pointers import STORE_FILE, holds_kind
from personality_common.registry.registry import Registry
from personality_common.registry.together import add_kind
from personality_common.registry.versions import VERSIONS_DIR
from pretrain.lm.bundle.gguf_file import read_metadata

LEARNED: Final = "learned"


def open_adapters(store: Path) -> Registry[Adapter]:
    """Versions of a companion's adapter.

    Args:
        store: the companion's, or the registry's own folder.

    Raises:
        DataError: there are none.
    """
    own = (store / STORE_FILE).exists() and (store / VERSIONS_DIR).exists()
    if not own and not (store / LEARNED).exists():
        raise DataError(f"{store}: must be a store of adapters, has none yet; pt night run makes the first")
    return Registry(store if own else store / LEARNED, ADAPTERS)


def create_adapters(store: Path, base: Path) -> Registry[Adapter]:
    """Make `STORE/learned` with "no adapter" of a base as the one that shipped; heads may be there already.

    Identity of its versions is `{"base": sha256 of the GGUF file}`.

    Raises:
        ConfigError: there are adapters already.
        DataError: the base is of an architecture that no adapter is trained for.
    """
    sha256 = file_sha256(base)
    return add_kind(store / LEARNED, ADAPTERS, {"base": sha256}, no_adapter(base, sha256))


def no_adapter(base: Path, sha256: str) -> Adapter:
    """The base as it shipped.

    Raises:
        DataError: it is of another architecture, or names no head counts.
    """
    heads, kv_heads = read_head_counts(base)
    return Adapter(1, 1.0, sha256, ARCHITECTURE, heads, kv_heads)


def read_head_counts(base: Path) -> tuple[int, int]:
    """Heads of a base's queries, and of its keys and values; raises as `no_adapter`."""
    entries = read_metadata(base)
    if entries.get("general.architecture") != ARCHITECTURE:
        found = str(entries.get("general.architecture"))
        raise DataError(f"{base}: adapters are trained for {ARCHITECTURE}, this is {found!r:.40}")
    heads = entries.get(f"{ARCHITECTURE}.attention.head_count")
    kv_heads = entries.get(f"{ARCHITECTURE}.attention.head_count_kv", heads)
    if type(heads) is not int or type(kv_heads) is not int or not 1 <= kv_heads <= heads <= 1024:
        raise DataError(
            f"{base}: must name 1 to 1024 heads, names {str(heads)[:40]} and {str(kv_heads)[:40]}"
        )
    return heads, kv_heads


def active_file(store: Path, base: Path) -> tuple[str, Path] | None:
    """The active adapter's version and GGUF file, verified; None: there is none, or it is another base's.

    Args:
        store: the companion's.

    Raises:
        DataError: it is damaged.
    """
    folder = store / LEARNED
    if not holds_kind(folder, ADAPTERS.kind):
        return None
    registry = Registry(folder, ADAPTERS)
    pointers = registry.pointers()
    if pointers.identity.get("base") != file_sha256(base) or not registry.load(pointers.active).tensors:
        return None
    return pointers.active, folder / VERSIONS_DIR / pointers.active / ADAPTER_FILE
