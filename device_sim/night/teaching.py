"""The head of a night: made afresh from the one that shipped and all reactions that are live.

`pt simulate` and `pt grpo` carry what a learner knows from night to night. Here it is made anew of the log, a
night after the other as they were lived, which gives the same head bit for bit, and honours forgetting: what
was forgotten is in no head after the night, nor in the wealth of its gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, Final, NamedTuple

from device_sim.night.gate.findings import Finding
from device_sim.night.reactions import Reaction, Reactions
from device_sim.night.state import HeadNight, Night
from personality_common.evidence.claims import Check, claim, number, within
from personality_common.printable import counted

if TYPE_CHECKING:
    from torch import Tensor

    from device_sim.night.listening import Listener
    from grpo.groups import Groups
    from grpo.head import Head
    from grpo.learners import Moved

SHOWN: Final = 8
"""Tokens of a report."""
NO_TASTE: Final = "all reactions are as likely without a taste"


class Taught(NamedTuple):
    """A head, and what its learner says of it."""

    head: Head
    moved: Moved


def teach(nights: Sequence[Sequence[Reaction]], listener: Listener) -> Taught:
    """Make the head of some nights' reactions, by the learner, the gate and the budgets of `pt simulate`.

    Args:
        nights: oldest first, none of them empty.
    """
    from grpo.learner import study
    from grpo.learners import PosteriorLearner

    learner = PosteriorLearner(listener.reference)
    kept = learner.start()
    for night in nights[:-1]:
        # The head of an earlier night is of no use to this learner; what it knew is.
        learned, _ = study(*_feedback(night, listener), kept.learned, listener.reference, {})
        kept = kept._replace(learned=learned)
    kept, moved = learner.move(*_feedback(nights[-1], listener), kept)
    return Taught(kept.head, moved)


def _feedback(night: Sequence[Reaction], listener: Listener) -> tuple[Tensor, Groups]:
    from grpo.feedback import Candidate, Feedback, Interaction

    index = {token: i for i, token in enumerate(listener.tokens)}
    said = tuple(
        Interaction(one.id, (Candidate(tuple(index[t] for t in one.mood), one.reward, None),), text=one.text)
        for one in night
    )
    return listener.latents([one.text for one in night]), Feedback(said, "").groups()


def head_night(
    found: Reactions, others: Sequence[Night], listener: Listener, baseline: str, active: Head
) -> tuple[HeadNight, Head | None]:
    """What a night's reactions, with those before, come to.

    Args:
        others: nights before.
        baseline: version of the active head.

    Returns:
        The night; and the head that goes live, None where none does, or the shipped one.
    """
    earlier, new = found.by_night(others)
    nights = [*earlier, *([new] if new else [])]
    heard = [one for night in nights for one in night]
    ids = tuple(one.id for one in new)
    saw = tuple(sorted({turn for one in heard for turn in one.turns}))
    if not heard:
        check = claim("head.reactions", "there are reactions to learn from", False)
        reason = "all that it had learned from was forgotten"
        nothing = HeadNight(
            0, 0, ids, saw, dict(found.left_out), 1.0, 1.0, 0.0, 0.0, None, (), (), baseline, False,
            (check,), (reason,),
        )  # fmt: skip
        return nothing, None
    head, moved = teach(nights, listener)
    shipped = listener.shipped
    back, same = identical(head, shipped), identical(head, active)
    checks, reasons = _judged(moved, listener, len(heard), len(nights), back)
    if not reasons and same:
        reasons = ("it is the head that is active already",)
    if back and moved.gate.open and not same:
        reasons = ()  # what the learner has no reason for any more goes
    accepted = not reasons
    more, less = ((), ()) if back else _turned(head, listener)
    night = HeadNight(
        len(heard), len(nights), ids, saw, dict(found.left_out), moved.gate.wealth, moved.spent.overlap,
        moved.spent.error, moved.spent.kl, fmean(one.reward for one in new) if new else None, more, less,
        baseline, accepted, checks, reasons,
    )  # fmt: skip
    return night, head if accepted and not back else None


def held_back(told: HeadNight, person: Finding, waiting: int, anew: bool) -> HeadNight:
    """A head of earlier nights' reactions alone, since tonight's may be another person's: they wait.

    Args:
        told: what the earlier ones come to.
        waiting: tonight's reactions.
        anew: it goes live all the same, if it may: the one before saw what was forgotten since.
    """
    reason = f"not heard yet: {counted(waiting, 'new reaction')}; {person.reason}"
    if anew:
        return replace(told, reasons=(*told.reasons, reason))
    check = claim("head.person", "who reacts is who was there before", False, person.check.detail)
    return replace(told, accepted=False, checks=(check,), reasons=(reason,))


def _judged(
    moved: Moved, listener: Listener, reactions: int, nights: int, back: bool
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """The gate, the taste and the budgets, with the reasons to refuse."""
    from grpo.reference import CONFIDENCE

    config, spent = listener.reference.config, moved.spent
    assert config.gate is not None
    of = f"{counted(reactions, 'reaction')} of {counted(nights, 'night')}"
    gate = within(
        "head.gate", "reactions follow the mood, not chance", moved.gate.wealth, ">=", config.gate, of
    )
    if not moved.gate.open:
        seen = f"{of} could be chance: a bet on them made {number(moved.gate.wealth)} of 1"
        return (gate,), (f"{seen}, and must make {number(config.gate)}",)
    taste = claim("head.taste", "a taste explains them better than none", not back)
    checks, reasons = [gate, taste], [NO_TASTE] if back else []
    kept = spent.overlap - CONFIDENCE * spent.error
    for id, name, value, bound, limit in (
        (
            "head.overlap",
            "top 8 in common with the shipped head",
            kept,
            ">=",
            config.overlap_budget,
        ),
        ("head.kl", "KL from the shipped head", spent.kl, "<=", config.kl_budget),
    ):
        if limit is not None and not back:
            check = within(id, name, value, bound, limit)  # type: ignore[arg-type]
            checks.append(check)
            reasons += [f"{name}: {check.against}"] if check.failed else []
    return tuple(checks), tuple(reasons)


def _turned(head: Head, listener: Listener) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tokens that the head makes likelier and less likely, on the mean of the reference's texts."""
    reference = listener.reference
    moved = (head.logits(reference.latents) - reference.logits).double().mean(0)
    moved = moved - moved.mean()
    order = moved.argsort(descending=True).tolist()
    more = tuple(listener.tokens[i] for i in order[:SHOWN] if float(moved[i]) > 0)
    less = tuple(listener.tokens[i] for i in reversed(order[-SHOWN:]) if float(moved[i]) < 0)
    return more, less


def identical(ours: Head, theirs: Head) -> bool:
    """Bit for bit."""
    return all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(ours, theirs, strict=True))
