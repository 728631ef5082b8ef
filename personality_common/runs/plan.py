"""What the bits of a result depend on, and whether two results depend on the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from personality_common.errors import MismatchError

PLAN_FILE: Final = "plan.json"


def require_same_plan(
    theirs: Mapping[str, Any],
    ours: Mapping[str, Any],
    where: Path,
    advice: str,
    may_differ: Collection[str] = (),
) -> dict[str, Any]:
    """Compare two plans over the keys of both; a key inside an object is named `outer.inner`.

    Args:
        theirs: as read from JSON.
        ours: of what JSON can hold.
        where: the folder of theirs, for the message.
        advice: what to do where they differ.
        may_differ: keys whose values do not decide whether it is the same plan.

    Returns:
        Those of `may_differ` in which they do differ, with our values.

    Raises:
        MismatchError: another key differs, or only one of them has it.
    """
    there, here = _flat(theirs), _flat(json.loads(json.dumps(ours)))
    absent = object()
    differing = [k for k in sorted(there | here) if there.get(k, absent) != here.get(k, absent)]
    if wrong := [key for key in differing if key not in may_differ]:
        said = "; ".join(f"{key} is {_said(there, key)} there, {_said(here, key)} here" for key in wrong)
        raise MismatchError(f"{where}: must be of the same plan: {said}; {advice}")
    return {key: here.get(key) for key in differing}


def _flat(plan: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plan.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _said(plan: Mapping[str, Any], key: str) -> str:
    return repr(plan[key])[:80] if key in plan else "absent"
