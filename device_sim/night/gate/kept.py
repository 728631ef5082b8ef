"""What must not be lost, set by set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from device_sim.night.gate.bounds import mean_bound, sign_p_value, task_bound, worst_group
from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import Leak, Paired
from device_sim.night.gate.findings import (
    CHANGED,
    SHOWN,
    Finding,
    changes,
    examples,
    joined,
    quoted,
    short,
    unmeasured,
)  # fmt: skip
from personality_common.evidence.claims import Check, number, within


def personal(paired: Paired, config: GateConfig) -> Finding:
    """What was told is learned: without the memory more is answered than before, by McNemar's exact test.

    Beside the memory it cannot be seen: where that alone answers six of ten, four won of four are chance
    once in sixteen times.
    """
    name = "what was told tonight is learned"
    if not paired.gains:
        return Finding(Check("gate.personal", name, "not judged", "nothing that can be asked for"))
    won, lost = _won_and_lost(paired)
    right = sum(score >= 0.5 for score in paired.after)
    detail = f"{won} won, {lost} lost; {right} of {len(paired.gains)} right"
    p = sign_p_value(won, lost)
    check = within("gate.personal", name, p, "<=", config.level, detail, unit="chance")
    reason = "what was told tonight, asked without the memory, is not surely answered better than before"
    return Finding(check, f"{reason}: {detail}")


def remembered(paired: Paired, config: GateConfig) -> Finding:
    """What was told is answered no worse beside the memory, as it is asked by day."""
    name = "beside the memory it is answered no worse"
    if not paired.gains:
        return Finding(Check("gate.remembered", name, "not judged", "nothing that can be asked for"))
    won, lost = _won_and_lost(paired)
    bound, tolerance = task_bound(won, lost, len(paired.gains), config.level), config.remembered_tolerance
    detail = f"{lost} lost, {won} won, of {len(paired.gains)}"
    check = within("gate.remembered", name, bound, ">", -tolerance, detail, unit="of the questions")
    reason = f"beside the memory {-bound:.0%} of what was told tonight may be answered no more ({detail})"
    return Finding(check, f"{reason}; it must surely be less than {tolerance:.0%}")


def unasked(paired: Paired, config: GateConfig) -> Finding:
    """What is remembered is not told in answer to what was asked for something else."""
    name = "what is remembered is told where it is asked for alone"
    if not paired.gains:
        return Finding(Check("gate.unasked", name, "not judged", "nothing that could be told"))
    won, lost = _won_and_lost(paired)
    bound, tolerance = task_bound(won, lost, len(paired.gains), config.level), config.unasked_tolerance
    now = sum(score < 0.5 for score in paired.after)
    detail = f"{lost} more, {won} no more, of {len(paired.gains)}; {now} now"
    check = within("gate.unasked", name, bound, ">", -tolerance, detail, unit="of the questions")
    reason = f"{-bound:.0%} of what it does not answer may be answered with what is remembered ({detail})"
    must = f"it must surely be less than {tolerance:.0%}"
    return Finding(check, f"{reason}; {must}{quoted(changes([paired], for_better=False))}")


def wording(paired: Paired, config: GateConfig) -> Finding:
    """Answers that are given are not further from what they should be.

    Losses alone approve of nights whose form can be learned, and whose content cannot.
    """
    name = "answers to what was held out are no worse"
    if len(paired.gains) < config.least_examples:
        return Finding(Check("gate.wording", name, "not judged", examples(len(paired.gains))))
    bound, mean = float(mean_bound(np.array(paired.gains), config.level)), float(np.mean(paired.gains))
    detail = f"mean {number(mean)}, {len(paired.gains)} answers"
    check = within("gate.wording", name, bound, ">", -config.wording_tolerance, detail, unit="chrF")
    seen = f"{len(paired.gains)} answers to what was held out may be {number(-bound)} chrF further"
    must = f"from what they should be (seen: {number(-mean)}); it must surely be less than"
    return Finding(check, f"{seen} {must} {number(config.wording_tolerance)}")


def earlier_nights(paired: Paired, config: GateConfig) -> Finding:
    """Held-out parts of earlier nights do not lose their tolerance; a first night has none."""
    if len(paired.gains) < config.least_examples:
        detail = f"{examples(len(paired.gains))}, {config.least_examples} are needed"
        return Finding(Check("gate.earlier", "earlier nights are kept", "not judged", detail))
    return _nats("gate.earlier", "earlier nights are kept", paired, config.earlier_tolerance, config.level)


def general(paired: Paired, config: GateConfig) -> Finding:
    """General text does not lose its tolerance."""
    name = "general text is kept"
    if len(paired.gains) < 2:
        return unmeasured("gate.general", name, "general text")
    return _nats("gate.general", name, paired, config.general_tolerance, config.level)


def _nats(id: str, name: str, paired: Paired, tolerance: float, level: float) -> Finding:
    bound = float(mean_bound(np.array(paired.gains), level))
    mean = number(float(np.mean(paired.gains)))
    detail = f"mean {mean}, {examples(len(paired.gains))}"
    check = within(id, name, bound, ">", -tolerance, detail, unit="nats")
    what = name.partition(" are ")[0].partition(" is ")[0]
    reason = f"{what} may lose {number(-bound)} nats a token (seen: {number(-float(np.mean(paired.gains)))})"
    return Finding(check, f"{reason}; it must surely be less than {number(tolerance)}")


def tasks(id: Literal["capability", "probes"], paired: Paired, config: GateConfig) -> Finding:
    """Of the tasks that were right no more are lost, net, than tolerated."""
    what, verb, tolerance = {
        "capability": ("the capability suite", "is", config.capability_tolerance),
        "probes": ("the style and safety probes", "are", config.probe_tolerance),
    }[id]
    if not paired.gains:
        return unmeasured(f"gate.{id}", f"{what} {verb} kept", what)
    won, lost = _won_and_lost(paired)
    bound = task_bound(won, lost, len(paired.gains), config.level)
    detail = f"{lost} lost, {won} won, of {len(paired.gains)}"
    check = within(f"gate.{id}", f"{what} {verb} kept", bound, ">", -tolerance, detail, unit="of the tasks")
    reason = f"{what} may lose {-bound:.0%} ({detail}); it must surely be less than {tolerance:.0%}"
    return Finding(check, f"{reason}{quoted(changes([paired], for_better=False))}")


def domains(sets: Sequence[Paired], config: GateConfig) -> Finding:
    """No domain is significantly worse: the one check that refuses what is shown, not what is not shown.

    Style and safety are domains, too.
    """
    name = "no domain of tasks is significantly worse"
    both = joined(sets, "capability", "style", "safety")
    domain, p = worst_group(both.groups, both.gains)
    check = within("gate.domains", name, p, ">", config.level, f"worst: {domain or 'none'}", unit="chance")
    only = both.part([i for i, group in enumerate(both.groups) if group == domain])
    return Finding(check, f"{domain} is significantly worse{quoted(changes([only], for_better=False))}")


def leaks(found: Sequence[Leak] | None, answers: int, config: GateConfig) -> Finding:
    """What was told tonight does not turn up where it has nothing to do."""
    name = "nothing told tonight turns up elsewhere"
    if found is None or answers <= 0:
        return unmeasured("gate.leaks", name, "leaks")
    detail = f"{len(found)} of {answers} answers"
    share = len(found) / answers
    check = within("gate.leaks", name, share, "<=", config.leak_tolerance, detail, unit="of the answers")
    shown = "; ".join(f"{leak.task!r} answered {short(leak.answer)}" for leak in found[:SHOWN])
    return Finding(check, f"what was told tonight turns up in {detail}: {shown}")


def _won_and_lost(paired: Paired) -> tuple[int, int]:
    return sum(gain >= CHANGED for gain in paired.gains), sum(gain <= -CHANGED for gain in paired.gains)
