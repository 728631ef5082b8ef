"""The gate: what it accepts, what it refuses and says, and how often it errs."""

import json
from dataclasses import asdict, replace

import bench_gate
import numpy as np
import pytest
from bench_gate import Truth, accepted

from device_sim.night.gate.config import GateConfig
from device_sim.night.gate.evidence import Decision, GateState, Kind, Leak, NightEvidence, Paired
from device_sim.night.gate.judge import judge
from personality_common.errors import ConfigError, DataError
from personality_common.evidence.claims import Check
from personality_common.files.typed import from_json


def nats(name: str, kind: Kind, mean: float, n: int = 40) -> Paired:
    gains = mean + 0.1 * np.sin(np.arange(n))
    return Paired(name, kind, (-1.0,) * n, tuple((gains - 1).tolist()))


def tasks(kind: Kind, n: int, lost: int = 0, won: int = 0) -> Paired:
    """Right before, but those that are won, the last; those that are lost are the first."""
    before = [1.0] * (n - won) + [0.0] * won
    after = [0.0] * lost + [1.0] * (n - lost)
    return Paired(
        kind, kind, tuple(before), tuple(after), tuple(f"{kind}.{i}" for i in range(n)),
        tuple(f"domain {i * 9 // n}" for i in range(n)) if kind == "capability" else (),
        (("Paris", "Mia"),) * n,
    )  # fmt: skip


def night(**changed: Paired) -> NightEvidence:
    sets = {
        "general": nats("general", "general", 0.0),
        "capability": tasks("capability", 144),
        "style": tasks("style", 30),
        "safety": tasks("safety", 30),
    } | changed
    target = sets.pop("target", nats("night-1", "target", 0.3))
    return NightEvidence(target, tuple(sets.values()), (), 144)


def check(decision: Decision, id: str) -> Check:
    (found,) = (check for check in decision.checks if check.id == id)
    return found


def test_a_night_that_gains_and_harms_nothing_is_accepted() -> None:
    decision = judge(night(), GateState(("night-0",), 1))
    assert decision.accepted
    assert decision.reasons == ()
    assert decision.state == GateState()
    assert [check.id for check in decision.checks] == [
        "gate.gain", "gate.wording", "gate.personal", "gate.remembered", "gate.unasked", "gate.earlier",
        "gate.general", "gate.capability", "gate.probes", "gate.domains", "gate.leaks",
    ]  # fmt: skip
    assert check(decision, "gate.earlier").status == "not judged"


@pytest.mark.parametrize(
    ("changed", "id", "reason"),
    [
        ({"target": nats("t", "target", 0.02)}, "gate.gain", "40 examples held out (tonight) gain"),
        ({"target": nats("t", "target", 0.3, 7)}, "gate.gain", "too little was held out tonight: 7"),
        ({"general": nats("g", "general", -0.1)}, "gate.general", "general text may lose"),
        ({"earlier": nats("night-0", "earlier", -0.1)}, "gate.earlier", "earlier nights may lose"),
        (
            {"capability": tasks("capability", 144, lost=12)}, "gate.capability",
            "the capability suite may lose 13% (12 lost, 0 won, of 144); it must surely be less than 12%:"
            " 'capability.0' answered 'Mia', before 'Paris'; 'capability.1' answered 'Mia', before 'Paris';"
            " 'capability.2' answered 'Mia', before 'Paris'; and 9 more",
        ),
        (
            {"wording": nats("wording", "wording", -0.2)}, "gate.wording",
            "40 answers to what was held out may be 0.2",
        ),
        ({"style": tasks("style", 30, lost=5)}, "gate.probes", "the style and safety probes may lose"),
        (
            {"capability": tasks("capability", 144, lost=8, won=8)}, "gate.domains",
            "domain 0 is significantly worse: 'capability.0' answered",
        ),
        ({"safety": tasks("safety", 30, lost=8)}, "gate.domains", "safety is significantly worse"),
        (
            {"personal": tasks("personal", 10, lost=0, won=4)}, "gate.personal",
            "what was told tonight, asked without the memory, is not surely answered better than before:"
            " 4 won, 0 lost; 10 of 10 right",
        ),
        (
            {"remembered": tasks("remembered", 10, lost=2)}, "gate.remembered",
            "beside the memory 46% of what was told tonight may be answered no more (2 lost, 0 won, of 10);"
            " it must surely be less than 35%",
        ),
        (
            {"unasked": tasks("unasked", 40, lost=3)}, "gate.unasked",
            "17% of what it does not answer may be answered with what is remembered (3 more, 0 no more, of"
            " 40; 3 now); it must surely be less than 15%: 'unasked.0' answered 'Mia', before 'Paris'",
        ),
    ],
    ids=["gain", "few", "general", "earlier", "suite", "wording", "probes", "domain", "safety", "personal",
         "remembered", "unasked"],
)  # fmt: skip
def test_a_night_is_refused_with_its_reason(changed: dict[str, Paired], id: str, reason: str) -> None:
    decision = judge(night(**changed), GateState())
    assert not decision.accepted
    assert check(decision, id).failed
    assert any(said.startswith(reason) for said in decision.reasons), decision.reasons
    assert len(decision.reasons) == sum(check.failed for check in decision.checks)
    assert decision.state.refused == ((changed.get("target") or nats("night-1", "target", 0)).name,)


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    # McNemar's: so many or more won of all that changed, over 2 to the power of their number.
    [(4, 0, 1 / 16), (5, 0, 1 / 32), (8, 0, 1 / 256), (8, 1, 10 / 512), (7, 2, 46 / 512), (0, 0, 1.0)],
)
def test_that_facts_are_learned_is_seen_without_the_memory(won: int, lost: int, p: float) -> None:
    decision = judge(night(personal=tasks("personal", 10, lost, won)), GateState())
    assert check(decision, "gate.personal").measured == pytest.approx(p)
    assert decision.accepted == (p <= 0.05)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 0), (4, 0), (0, 1), (3, 2)])
def test_a_memory_that_answers_most_leaves_a_night_to_be_accepted(won: int, lost: int) -> None:
    """Six of ten are answered beside the memory before, and eight more without it after: four won of four
    were chance once in sixteen times, and no longer are asked to be more."""
    seen = night(personal=tasks("personal", 10, won=8), remembered=tasks("remembered", 10, lost, won))
    decision = judge(seen, GateState())
    assert decision.accepted, decision.reasons
    if (won, lost) == (0, 0):  # the score test without changes: z squared over n and z squared
        z = 1.6448536
        assert check(decision, "gate.remembered").measured == pytest.approx(-(z**2) / (10 + z**2), abs=1e-6)


@pytest.mark.parametrize("n", [6, 10, 20])
def test_a_memory_that_answers_all_leaves_a_night_to_be_accepted(n: int) -> None:
    seen = night(personal=tasks("personal", n, won=n), remembered=tasks("remembered", n))
    assert judge(seen, GateState()).accepted
    without = night(personal=tasks("personal", n), remembered=tasks("remembered", n, won=n))
    failed = [check.id for check in judge(without, GateState()).checks if check.failed]
    assert failed == ["gate.personal"]  # what reads better, and has learned nothing


def test_tasks_that_changed_sides_are_named() -> None:
    decision = judge(night(capability=tasks("capability", 144, lost=1, won=2)), GateState())
    assert [change.name for change in decision.lost] == ["capability.0"]
    assert [change.name for change in decision.won] == ["capability.142", "capability.143"]
    assert decision.lost[0].after == "Mia"


def test_a_leak_refuses() -> None:
    leaking = replace(night(), leaks=(Leak("facts.capital-of-france", "mia", "The capital is Mia.\n"),))
    decision = judge(leaking, GateState())
    assert decision.reasons == (
        "what was told tonight turns up in 1 of 144 answers: 'facts.capital-of-france' answered"
        " 'The capital is Mia.'",
    )
    assert judge(leaking, GateState(), GateConfig(leak_tolerance=0.01)).accepted


@pytest.mark.parametrize("kind", ["general", "capability", "probes", "leaks"])
def test_what_was_not_measured_is_not_kept(kind: str) -> None:
    whole = night()
    left = tuple(
        p for p in whole.kept if p.kind != kind and not (kind == "probes" and p.kind in ("style", "safety"))
    )
    lacking = replace(whole, leaks=None) if kind == "leaks" else replace(whole, kept=left)
    decision = judge(lacking, GateState())
    assert [check.id for check in decision.checks if check.failed] == [f"gate.{kind}"]
    assert "must be measured, and was not" in decision.reasons[0]


def test_evidence_adds_up_over_refused_nights() -> None:
    """A night too weak alone is accepted with what earlier ones held out, and not without their names."""
    rng = np.random.default_rng(1)
    nights = [
        Paired(f"night-{i}", "earlier", (0.0,) * 12, tuple((0.15 + 0.3 * rng.standard_normal(12)).tolist()))
        for i in range(6)
    ]
    last = replace(nights.pop(), kind="target")
    evidence = NightEvidence(last, (*night().kept, *nights), (), 144)
    names = tuple(paired.name for paired in nights)
    assert judge(evidence, GateState(names, 5)).accepted
    assert not judge(evidence, GateState((), 5)).accepted
    assert not judge(evidence, GateState()).accepted


def test_looks_cost_and_too_few_examples_are_no_look() -> None:
    barely = night(target=nats("t", "target", 0.05))
    assert judge(barely, GateState()).accepted
    refused = judge(barely, GateState(looks=40))
    assert not refused.accepted
    assert refused.state.looks == 41
    few = judge(night(target=nats("t", "target", 0.3, 3)), GateState(looks=4))
    assert few.state == GateState(("t",), 4)


def test_the_state_comes_back_from_json() -> None:
    state = GateState(("night-1", "night-2"), 2)
    assert from_json(GateState, json.loads(json.dumps(asdict(state))), "state") == state
    with pytest.raises(DataError, match=r"looks must be a whole number"):
        from_json(GateState, {"refused": [], "looks": "2"}, "state")


@pytest.mark.parametrize(
    "values", [{"level": 0.5}, {"minimum_effect": -0.1}, {"general_tolerance": 0.0}, {"least_examples": 4},
               {"leak_tolerance": float("nan")}, {"probe_tolerance": float("inf")}],
)  # fmt: skip
def test_a_config_is_checked(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(values)).replace('_', '-')} must be"):
        GateConfig(**values)  # type: ignore[arg-type]


def test_scores_come_in_pairs() -> None:
    with pytest.raises(ValueError, match="a score before and after"):
        Paired("x", "target", (1.0,), ())
    with pytest.raises(ValueError, match="finite"):
        Paired("x", "target", (1.0,), (float("nan"),))


NIGHTS = 60


@pytest.mark.parametrize(
    ("truth", "least", "most"),
    [
        # At .05 of 60 nights 3 are expected, and 9 three deviations above; at .9 there are 47 three below.
        (Truth("nothing", False, 0.0, 60), 0.0, 0.15),
        (Truth("the minimum", False, 0.02, 200), 0.0, 0.15),
        (Truth("design", True, bench_gate.DESIGN, 200), 0.78, 1.0),
        (Truth("forgets", False, 0.5, general=-0.1), 0.0, 0.15),
        (Truth("loses tasks", False, 0.5, lost=0.12), 0.0, 0.15),
        (Truth("loses probes", False, 0.5, lost_probes=0.15), 0.0, 0.15),
        (Truth("learns no fact", False, 0.5, facts=10), 0.0, 0.15),
        (Truth("learns facts", True, 0.5, facts=10, learned=0.8), 0.5, 1.0),
        (Truth("reads no more", False, 0.5, facts=10, learned=0.8, unread=0.35), 0.0, 0.18),
        (Truth("tells unasked", False, 0.5, facts=10, learned=0.8, unasked=0.15), 0.0, 0.15),
    ],
    ids=lambda value: value.name if isinstance(value, Truth) else "",
)
def test_the_gate_errs_as_seldom_as_it_says(truth: Truth, least: float, most: float) -> None:
    assert least <= accepted(truth, NIGHTS, 5)["gate"] <= most


def test_of_lives_without_anything_to_learn_few_see_an_acceptance() -> None:
    found = bench_gate.lives(GateConfig().minimum_effect, 12, 30, 3, nights=5)
    assert sum(night is not None for night in found) <= 5  # 1.5 are expected at most
