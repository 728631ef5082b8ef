"""A fleet in numbers: distributions over devices, by kind of user, and those that came off worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from device_sim.fleet.fleet import Fleet
from device_sim.fleet.lives import TRACES, Lived, measured_nights
from device_sim.fleet.proof import simulate_command
from device_sim.fleet.verdict import is_control
from device_sim.users.nights import oracle_share
from personality_common.evidence.claims import finite, to_json

FIGURES_FILE: Final = "fleet.json"
SCHEMA: Final = 3
"""Of `fleet.json`, after `fleet.schema.json`: greater when a key goes or means something else."""
QUANTILES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
WORST_SHARE: Final = 0.01
WORST_SHOWN: Final = 40
"""At most so many of the worst are listed."""
BINS: Final = 40
EVERYONE: Final = "all"


@dataclass(frozen=True)
class Group:
    """Devices with one kind of user, or all of them. Gains and drift are on held-out texts.

    Attributes:
        name: the user, or "all".
        control: whether the user's rewards say nothing.
        gain: mean gain in reward over the shipped head.
        gain_quantiles: at QUANTILES, over devices.
        below_zero: share of devices that ended worse than they were shipped.
        oracle_share: mean gain divided by the mean of what the best head gains, over devices with an oracle;
            None without any, and where the best gains next to nothing.
        kl, overlap: mean drift from the shipped head.
        kl_worst, overlap_worst: that 1% of the devices are beyond.
        gains: mean gain after each of `measured_nights`, on the first GLANCE held-out texts.
        held_back: share of devices with a night that one of the next three stopped.
        stopped, scaled, dropped: share of nights whose update was cut short by `kl_stop`, scaled back to fit
            the budgets, or dropped since no part of it did.
        silent: share of nights without anything to learn from.
        nights: name in TRACES -> its mean over devices, night by night.
        histogram: devices in each of BINS steps of the gain.
    """

    name: str
    control: bool
    devices: int
    gain: float
    gain_quantiles: tuple[float, ...]
    below_zero: float
    oracle_share: float | None
    kl: float
    kl_worst: float
    overlap: float
    overlap_worst: float
    gains: tuple[float, ...]
    held_back: float
    stopped: float
    scaled: float
    dropped: float
    silent: float
    nights: dict[str, list[float]]
    histogram: tuple[int, ...]

    @property
    def title(self) -> str:
        return f"{self.name} (control)" if self.control else self.name


@dataclass(frozen=True)
class Population:
    """Attributes:
    groups: all devices, then each kind of user that some device has.
    edges: of the histograms, BINS + 1.
    worst: the least gains, the worst first: WORST_SHARE of the devices, WORST_SHOWN at most.
    """

    groups: tuple[Group, ...]
    edges: tuple[float, ...]
    worst: tuple[Lived, ...]


def population(fleet: Fleet) -> Population:
    """Distributions over the fleet's devices."""
    lived = fleet.lived
    gains = np.array([one.gain for one in lived])
    finite = gains[np.isfinite(gains)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    sums = {name: np.array(fleet.traces.sums[name]) for name in TRACES}
    everyone = {name: rows.sum(0) / len(lived) for name, rows in sums.items()}
    groups = [_group(EVERYONE, lived, everyone, edges)]
    for kind, described in enumerate(fleet.plan.kinds):
        members = [one for one in lived if one.kind == kind]
        if members:
            nights = {name: rows[kind] / len(members) for name, rows in sums.items()}
            groups.append(_group(described.user, members, nights, edges))
    # NaN, of one's own reward function, is worse than anything.
    ranked = sorted(lived, key=lambda one: -math.inf if math.isnan(one.gain) else one.gain)
    worst = ranked[: min(WORST_SHOWN, math.ceil(WORST_SHARE * len(lived)))]
    return Population(tuple(groups), tuple(edges.tolist()), tuple(worst))


def _group(name: str, members: Sequence[Lived], nights: dict[str, Any], edges: Any) -> Group:
    def column(field: str) -> Any:
        return np.array([getattr(one, field) for one in members], float)

    gain, total = column("gain"), len(members) * len(nights["kl"])
    stops = {field: column(field) for field in ("stopped", "scaled", "dropped")}
    known = [(one.gain, one.oracle_gain) for one in members if one.oracle_gain is not None]
    return Group(
        name=name,
        control=name != EVERYONE and is_control(name),
        devices=len(members),
        gain=float(gain.mean()),
        gain_quantiles=tuple(np.quantile(gain, QUANTILES).tolist()),
        below_zero=float((gain < 0).mean()),
        oracle_share=oracle_share(*np.mean(known, 0).tolist()) if known else None,
        kl=float(column("kl").mean()),
        kl_worst=float(np.quantile(column("kl"), 0.99)),
        overlap=float(column("overlap").mean()),
        overlap_worst=float(np.quantile(column("overlap"), 0.01)),
        gains=tuple(np.mean([one.gains for one in members], 0).tolist()),
        held_back=float((sum(stops.values()) > 0).mean()),
        **{field: float(values.sum() / total) for field, values in stops.items()},
        silent=float(column("silent").sum() / total),
        nights={field: values.tolist() for field, values in nights.items()},
        histogram=tuple(np.histogram(gain, edges)[0].tolist()),
    )


def figures(fleet: Fleet, found: Population) -> dict[str, Any]:
    """Everything that can be plotted or asserted on; no text of anybody."""
    plan = fleet.plan
    document = {
        "schema": SCHEMA,
        **to_json(fleet.checks),
        "settings": plan.document,
        "bundle": {
            "run_fingerprint": fleet.bundle.run_fingerprint,
            "vocabulary_fingerprint": fleet.bundle.vocabulary.fingerprint,
            "encoder_fingerprint": fleet.bundle.encoder.fingerprint,
        },
        "lived_again": list(fleet.proof.devices),
        "seconds": fleet.seconds,
        "device_nights": fleet.device_nights,
        "quantiles": list(QUANTILES),
        "measured_nights": [night + 1 for night in measured_nights(plan.nights.nights)],
        "histogram_edges": list(found.edges),
        "groups": [asdict(group) for group in found.groups],
        "worst": [
            {**asdict(one), "user": plan.kinds[one.kind].user, "command": simulate_command(plan, one.device)}
            for one in found.worst
        ],
    }
    return dict(finite(document))
