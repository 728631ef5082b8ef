"""A head of `pt grpo` becomes a version in a store."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from device_sim.heads.heads import create_heads, open_heads
from device_sim.heads.shipped import identity, open_shipped, shipped_head, shipped_reference
from grpo.config import GRPOConfig
from grpo.head import Head
from personality_common.errors import DataError
from personality_common.registry.record import Gate, Record, now
from pretrain.personality.head_file import head_metadata, read_head_file


def add_head(store: Path, file: Path, bundle: Path) -> tuple[str, Record]:
    """Keep a head, with how far it is from the one that shipped as its gate.

    Its parent is the version with the head that its update began with, if the store has that.

    Args:
        store: of the bundle's heads; made, with what shipped, where there is none.

    Returns:
        The version, which is not active, and its record.

    Raises:
        DataError: file, bundle or store are damaged.
        MismatchError: the head is not of the bundle's run, or the store is another bundle's.
        ConfigError: the bundle has no reference, or the store's folder has something else in it.
    """
    opened = open_shipped(bundle)
    belongs = head_metadata(opened.run_fingerprint, opened.vocabulary.fingerprint)
    found = read_head_file(file, belongs)
    head = Head(found.weight, found.bias)
    reference = shipped_reference(opened, GRPOConfig())
    spent = reference.spent(head)
    budgets = reference.config
    detail = (
        f"top 8 in common {spent.overlap:.3f} \N{PLUS-MINUS SIGN} {spent.error:.3f}"
        f" (budget {budgets.overlap_budget}), KL {spent.kl:.3f} (budget {budgets.kl_budget})"
    )
    registry = (
        open_heads(store) if store.is_dir() and any(store.iterdir())
        else create_heads(store, identity(opened), shipped_head(opened))
    )  # fmt: skip
    began = found.metadata.get("start_fingerprint", "")[:12]
    parents = [v.version for v in registry.versions() if began and v.version.endswith(f"-{began}")]
    record = Record(
        identity=identity(opened),
        created=now(),
        parents=tuple(parents[:1]),
        settings=_json(found.metadata, "settings", file, dict) or {},
        data={"feedback": found.metadata.get("feedback_fingerprint", "")},
        before=_reward(found.metadata, file),
        after={"kl_shipped": spent.kl, "overlap_shipped": spent.overlap},
        gates=(Gate("drift within budget", reference.within(spent), detail),),
    )
    return registry.add(head, record), record


def _reward(metadata: Mapping[str, str], file: Path) -> dict[str, float]:
    """Of the feedback that the head learned from; empty where nobody spoke."""
    mean = _json(metadata, "reward_mean", file, float | int)
    return {} if mean is None or not math.isfinite(mean) else {"reward_mean": float(mean)}


def _json(metadata: Mapping[str, str], key: str, file: Path, kind: Any) -> Any:
    try:
        value = json.loads(metadata.get(key, "null"))
    except (ValueError, RecursionError):
        value = key
    if value is not None and not isinstance(value, kind):
        raise DataError(f"{file}: {key} must be what pt grpo writes, is something else")
    return value
