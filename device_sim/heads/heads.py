"""The head as a kind of thing that has versions: its files, its shape, and stores of earlier schemas.

Beside a head may lie what its learner keeps for the next night: the training state, evidence, the gate.
Only what reads or writes a head needs torch: to list or to pin versions goes without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from device_sim.adapters.learned import LEARNED
from personality_common.contract import HEAD_BIAS, HEAD_PARAMETERS, HEAD_WEIGHT
from personality_common.errors import DataError
from personality_common.registry.codec import Codec
from personality_common.registry.identity import Identity
from personality_common.registry.pointers import holds_kind
from personality_common.registry.registry import Registry

if TYPE_CHECKING:
    import torch

    from grpo.head import Head

HEAD_FILE: Final = "head.safetensors"
LEARNING_FILE: Final = "learning.safetensors"


class HeadCodec(Codec["Head"]):
    """`projection.weight` and `output_bias` in one file; ids carry the fingerprint of the weight."""

    kind = "head"
    letter = "h"
    files: ClassVar[Mapping[str, int]] = {HEAD_FILE: 64 << 20, LEARNING_FILE: 64 << 20}

    def write(self, value: Head, folder: Path) -> None:
        from device_sim.heads.learning import LearnedHead, write_learning
        from personality_common.files.tensors import save_tensors

        save_tensors(folder / HEAD_FILE, _tensors(value))
        if isinstance(value, LearnedHead):
            write_learning(folder / LEARNING_FILE, value.kept)

    def read(self, files: Mapping[str, Path]) -> Head:
        from device_sim.heads.learning import LearnedHead, read_learning
        from grpo.head import Head
        from personality_common.files.tensors import load_tensors

        tensors, _ = load_tensors(files[HEAD_FILE])
        if tensors.keys() != set(HEAD_PARAMETERS):
            raise DataError(
                f"{files[HEAD_FILE]}: must hold {', '.join(HEAD_PARAMETERS)}, holds {sorted(tensors)[:5]}"
            )
        head = Head(tensors[HEAD_WEIGHT], tensors[HEAD_BIAS])
        if LEARNING_FILE not in files:
            return head
        return LearnedHead.of(read_learning(files[LEARNING_FILE], head))

    def fingerprint(self, value: Head) -> str:
        from personality_common.files.tensors import tensor_fingerprints

        return tensor_fingerprints(_tensors(value))[HEAD_WEIGHT]

    def check(self, value: Head) -> None:
        import torch

        value.check(torch.zeros(1, value.weight.shape[1]))

    def shapes(self, value: Head) -> dict[str, tuple[int, ...]]:
        return {"weight": tuple(value.weight.shape)}

    def modern_store(self, content: dict[str, Any]) -> dict[str, Any]:
        """Schema 1 knew one kind, and no log."""
        if content.get("schema") != 1:
            return content
        names = ("identity", "next", "active", "history", "pinned")
        entry = {name: content[name] for name in names}
        return {"schema": 2, "kinds": {"head": entry | {"shapes": {"weight": content["shape"]}, "log": []}}}

    def modern_record(self, content: dict[str, Any]) -> dict[str, Any]:
        """Schema 1 knew one file, one parent, and feedback as all there is to learn from."""
        if content.get("schema") != 1:
            return content
        record = dict(content["record"])
        parent, feedback = record.pop("parent"), record.pop("feedback")
        record["parents"] = [] if parent is None else [parent]
        record["data"] = {} if feedback is None else {"feedback": feedback}
        files = {HEAD_FILE: {"sha256": content["head_sha256"], "size": None}}
        return {"schema": 2, "version": content["version"], "files": files, "record": record}


HEADS: Final = HeadCodec()


def open_heads(path: Path) -> Registry[Head]:
    """A store of heads that is there, a companion's among them.

    Raises:
        DataError: there are none.
    """
    learned = path / LEARNED
    if holds_kind(learned, HEADS.kind):
        return Registry(learned, HEADS)
    if learned.exists():
        raise DataError(
            f"{path}: must be a store of heads, has none yet; pt night run --bundle makes the first"
        )
    return Registry(path, HEADS)


def has_learned(path: Path) -> bool:
    """Whether the active head of a folder is another than the one that shipped; needs no torch."""
    if not holds_kind(path, HEADS.kind):
        return False
    heads = Registry(path, HEADS)
    return bool(heads.show(heads.active).record.parents)


def create_heads(path: Path, identity: Identity, shipped: Head) -> Registry[Head]:
    """A new store of heads, with the one that shipped active and pinned."""
    return Registry.create(path, HEADS, identity, shipped)


def _tensors(head: Head) -> dict[str, torch.Tensor]:
    return dict(zip(HEAD_PARAMETERS, head, strict=True))
