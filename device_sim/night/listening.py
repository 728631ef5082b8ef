"""The bundle of a night: its text encoder and its model, which give latents, and the head that shipped."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from personality_common.errors import ConfigError, MismatchError
from personality_common.registry.identity import Identity
from personality_common.registry.registry import Registry
from personality_common.registry.together import add_kind

if TYPE_CHECKING:
    from torch import Tensor

    from device_sim.companion.mood import BundleMood
    from grpo.head import Head
    from grpo.reference import Reference


class Listener(Protocol):
    """What a head is made with; `BundleListener` has it of a bundle, tests of less.

    Attributes:
        bundle: fingerprint of its run, as sessions of the log have it.
        tokens: (V,) its vocabulary.
        identity: of its heads.
        shipped: the head that it ships.
        reference: the sample of texts on which budgets are kept.
    """

    @property
    def bundle(self) -> str: ...
    @property
    def tokens(self) -> Sequence[str]: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def shipped(self) -> Head: ...
    @property
    def reference(self) -> Reference: ...

    def latents(self, texts: Sequence[str]) -> Tensor:
        """(N, d) float32."""
        ...


class BundleListener:
    """See `Listener`; what takes long to load is loaded when it is first needed."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ConfigError: the bundle was exported without its text encoder or its model.
            DataError, MismatchError: it is malformed.
        """
        from device_sim.heads.shipped import identity, open_shipped

        self._opened = open_shipped(path)
        if not self._opened.has("encoder"):
            raise ConfigError(f"{path}: must have its text encoder; export it with it")
        self.path, self.bundle = path, self._opened.run_fingerprint
        self.tokens: Sequence[str] = self._opened.vocabulary.tokens
        self.identity = identity(self._opened)

    @cached_property
    def reference(self) -> Reference:
        from device_sim.heads.shipped import shipped_reference
        from grpo.config import GRPOConfig

        return shipped_reference(self._opened, GRPOConfig())

    @cached_property
    def shipped(self) -> Head:
        from device_sim.heads.shipped import shipped_head

        return shipped_head(self._opened)

    @cached_property
    def _mood(self) -> BundleMood:
        from device_sim.companion.mood import BundleMood

        return BundleMood(self.path)

    def latents(self, texts: Sequence[str]) -> Tensor:
        import torch

        return torch.from_numpy(self._mood.latents(texts))


def open_listener(path: Path | None) -> Listener | None:
    """The bundle of a night; None where none is given."""
    return None if path is None else BundleListener(path)


def heads_of(learned: Path, listener: Listener | None) -> Registry[Head] | None:
    """Versions of the head in a companion's store; made where there are none and a bundle is given.

    Args:
        learned: the store's folder of versions.

    Raises:
        MismatchError: they are another bundle's.
    """
    from device_sim.heads.heads import HEADS
    from personality_common.registry.pointers import holds_kind

    if not holds_kind(learned, HEADS.kind):
        return None if listener is None else add_kind(learned, HEADS, listener.identity, listener.shipped)
    registry = Registry(learned, HEADS)
    require_own(registry, listener)
    return registry


def require_own(registry: Registry[Head], listener: Listener | None) -> None:
    """Raise MismatchError unless the heads are of the bundle that is given, if one is."""
    if listener is None:
        return
    ours, theirs = registry.pointers().identity, listener.identity
    for name in ours:
        if ours[name] != theirs.get(name):
            raise MismatchError(
                f"{registry.path}: its heads must be of the {name} {ours[name][:12]}, --bundle is of"
                f" {theirs.get(name, 'none')[:12]}; name their bundle with --bundle, or move the folder away"
            )
