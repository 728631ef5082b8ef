"""What a trained thing belongs to: fingerprints by name, such as those of its bundle and its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping

from personality_common.errors import MismatchError

Identity = Mapping[str, str]


def require_same_identity(ours: Identity, theirs: Identity, what: str) -> None:
    """Refuse what belongs to something else.

    Args:
        ours: identity of the store.
        what: names the thing in the message.

    Raises:
        MismatchError: a fingerprint differs, is missing, or is one that the store does not know.
    """
    for name in (*ours, *(theirs.keys() - ours.keys())):
        if ours.get(name) != theirs.get(name):
            expected, found = (identity.get(name, "none")[:12] for identity in (ours, theirs))
            raise MismatchError(f"{what}: must belong to the store's {name} {expected}, belongs to {found}")
