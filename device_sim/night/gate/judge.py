"""The decision.

What goes live must be shown to gain, and shown not to harm; what is not shown is refused. In the words of
testing: there are null hypotheses, that the candidate gains no more than `minimum_effect`, and for each kept
set that it loses the set's tolerance or more; it is accepted when *all* of them are rejected. So each is
tested at the whole level, without a correction for their number: whichever is true is rejected with a chance
of `level` at most, and acceptance needs that (an intersection-union test: Berger 1982). Their number costs
power.

The gain may be looked at every night. Look k, counted from what was last accepted, has level / (k (k + 1)),
which sums up to `level`: a user from whom nothing can be learned sees one false acceptance in twenty *lives*,
not nights. Evidence adds up all the same: from the second look on a half of the level goes to the candidate's
gain over tonight's held-out part together with those of the nights that were refused, which it has not seen
either. The head's gate (`grpo.gate`) asks night after night whether one and the same preference is there, so
its wealth is carried on; each night's adapter is another, and the wealth of one would vouch for the next.

An effect *at* the minimum is accepted with `level` at most: that is what the minimum is. What the gate is to
find is larger: with 200 examples .3 standard deviations above it (`tests/benchmarks/bench_gate.py`).

Source: Berger 1982, Multiparameter hypothesis testing and acceptance sampling, Technometrics 24(4), 295-300;
Blackwelder 1982, "Proving the null hypothesis" in clinical trials, Controlled Clinical Trials 3, 345-353.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from device_sim.night.gate.bounds import mean_bound
from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import Decision, GateState, NightEvidence, Paired
from device_sim.night.gate.findings import Finding, changes, examples, joined
from device_sim.night.gate.kept import (
    domains,
    earlier_nights,
    general,
    leaks,
    personal,
    remembered,
    tasks,
    unasked,
    wording,
)
from personality_common.evidence.claims import number, within

POOLED_NIGHTS: Final = 7
"""Refused nights whose held-out parts count for a gain: longer ago one was another."""


def judge(night: NightEvidence, state: GateState, config: GateConfig | None = None) -> Decision:
    """Decide on a night's candidate.

    Args:
        state: of the night before; a new one for the first.

    Returns:
        The decision. Refused, too, without sets of `general`, `capability`, and `style` or `safety`.
    """
    config = config or GateConfig()
    earlier = [paired for paired in night.kept if paired.kind == "earlier"]
    gain, looked = _gain(night.target, earlier, state, config)
    suite, probes = joined(night.kept, "capability"), joined(night.kept, "style", "safety")
    findings = (
        gain,
        wording(joined(night.kept, "wording"), config),
        personal(joined(night.kept, "personal"), config),
        remembered(joined(night.kept, "remembered"), config),
        unasked(joined(night.kept, "unasked"), config),
        earlier_nights(joined(night.kept, "earlier"), config),
        general(joined(night.kept, "general"), config),
        tasks("capability", suite, config),
        tasks("probes", probes, config),
        domains(night.kept, config),
        leaks(night.leaks, night.leak_answers, config),
    )
    checks = tuple(finding.check for finding in findings)
    accepted = not any(check.failed for check in checks)
    refused = (*state.refused, night.target.name)
    return Decision(
        accepted,
        checks,
        tuple(finding.reason for finding in findings if finding.check.failed),
        GateState() if accepted else GateState(refused, state.looks + looked),
        changes(night.kept, for_better=False),
        changes(night.kept, for_better=True),
    )


def _gain(
    target: Paired, earlier: Sequence[Paired], state: GateState, config: GateConfig
) -> tuple[Finding, bool]:
    """The gain on tonight's part, or on that and the refused nights'; and whether it was looked for."""
    name = "a gain on what was held out tonight"
    recent = set(state.refused[-POOLED_NIGHTS:]) - {target.name}
    refused = [paired for paired in earlier if paired.name in recent]
    pooled = target.gains + tuple(gain for paired in refused for gain in paired.gains)
    samples = [("tonight", target.gains)] if len(target.gains) >= config.least_examples else []
    if refused and len(pooled) >= config.least_examples:
        samples.append((f"tonight and {len(refused)} refused before", pooled))
    if not samples:
        detail = f"{examples(len(target.gains))}, {config.least_examples} are needed"
        check = within("gate.gain", name, None, ">", config.minimum_effect, detail, unit="nats")
        return Finding(check, f"too little was held out tonight: {detail}"), False
    look = state.looks + 1
    level = config.level / (look * (look + 1)) / len(samples)
    bounds = [float(mean_bound(np.array(gains), level)) for _, gains in samples]
    best = max(range(len(bounds)), key=bounds.__getitem__)
    where, gains = samples[best]
    mean = float(np.mean(gains))
    detail = f"mean {number(mean)}, {where}: {examples(len(gains))}, look {look}"
    check = within("gate.gain", name, bounds[best], ">", config.minimum_effect, detail, unit="nats")
    seen = f"{examples(len(gains))} held out ({where}) gain {number(mean)} nats a token"
    sure = f"sure is {number(bounds[best])}, which must be above {number(config.minimum_effect)}"
    return Finding(check, f"{seen} on average; {sure}"), True
