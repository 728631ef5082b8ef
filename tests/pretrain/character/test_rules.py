"""The rules: odds against hand-made sums, and drawn labels against the odds."""

import copy
import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pretrain.character.coherence import coherence
from pretrain.character.descriptors import archetypes, dynamics, profiles
from pretrain.character.rules import odds
from pretrain.character.schema import AXES, EMOTIONS, ROLES, load_schema

V1, V2 = load_schema("v1"), load_schema("v2")


def situation(**changes: Any) -> dict[str, Any]:
    """A character without axes, relations or history, to whom somebody speaks neutrally."""
    base: dict[str, Any] = {
        "axes": {},
        "emotions": {"joy": {"intensity": 0.4, "awareness": "Articulate"}},
        "relations": [],
        "scene": {"type": "Gate", "cast_size": 2, "tension": 0.5},
        "event": {"type": "Speech", "register": "Neutral", "confidence": 0.8, "target_count": 1},
    }
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            base[part] = base[part] | {name: value}
        else:
            base[part] = value
    return base


def axes(**central: float) -> dict[str, dict[str, float]]:
    return {name: {"central": value} for name, value in central.items()}


# Perform, Speak, Move, Examine, Wait, Resist; each begins with 1
@pytest.mark.parametrize(
    ("changes", "weights"),
    [
        ({}, (1, 3, 1, 1, 1, 1)),
        ({"event__type": "Action"}, (3, 1, 1, 1, 1, 1)),
        ({"event__type": "Movement"}, (1, 1, 3, 1, 1, 1)),
        ({"event__type": "Observation"}, (1, 1, 1, 3, 1, 1)),
        ({"event__type": "Interaction"}, (2, 1, 1, 1, 1, 1)),
        ({"event__type": "Emote"}, (1, 1, 1, 1, 2, 1)),
        ({"event__type": "Inquiry"}, (1, 1, 1, 2.5, 1, 1)),
        ({"event__register": "Aggressive"}, (1, 4, 1, 1, 1, 2.5)),
        ({"event__register": "Vulnerable"}, (1, 4, 1, 1, 1.5, 1)),
        ({"event__register": "Tender"}, (1.5, 4.5, 1, 1, 1, 1)),
        ({"event__register": "Guarded"}, (1, 3, 1, 2, 2, 1)),
        ({"event__register": "Inquisitive"}, (1, 4, 1, 2.5, 1, 1)),
        ({"event__register": "Playful"}, (1, 3, 1, 1, 1, 1)),
        ({"scene__tension": 0.71}, (1, 3, 1.5, 1, 1, 2)),
        ({"scene__tension": 0.7}, (1, 3, 1, 1, 1, 1)),
        ({"scene__tension": 0.29}, (1, 3, 1, 1.5, 2, 1)),
        ({"axes": axes(empathy=0.61, distance_management=0.61)}, (1, 4, 1, 1, 2, 1)),
        ({"axes": axes(empathy=0.6, distance_management=0.6)}, (1, 3, 1, 1, 1, 1)),
    ],
)
def test_actions(changes: dict[str, Any], weights: tuple[float, ...]) -> None:
    assert odds(situation(**changes)).action == pytest.approx([w / sum(weights) for w in weights])


# SharedHistory, CurrentScene, EmotionalReaction, RelationalDynamic, WorldResponse
@pytest.mark.parametrize(
    ("register", "benevolence", "weights"),
    [
        ("Neutral", 0.5, (1, 2, 1, 1, 1)),
        ("Neutral", 0.51, (2, 2, 1, 1, 1)),
        ("Aggressive", None, (1, 1, 3, 1, 1)),
        ("Vulnerable", None, (1, 1, 2.5, 1, 1)),
        ("Tender", None, (1, 1, 1, 2.5, 1)),
        ("Inquisitive", None, (1, 2.5, 1, 1, 1)),
        ("Playful", None, (1, 2, 1, 1, 1)),
    ],
)
def test_contexts(register: str, benevolence: float | None, weights: tuple[float, ...]) -> None:
    relations = [] if benevolence is None else [{"trust_benevolence": {"central": benevolence}}]
    found = odds(situation(event__register=register, relations=relations)).context
    assert found == pytest.approx([w / sum(weights) for w in weights])


@pytest.mark.parametrize(
    ("event", "silence", "p"),
    [("Speech", None, 0.8), ("Emote", None, 0.3), ("Observation", 0.5, 0.5), ("Inquiry", -1.0, 0.3)],
)
def test_whether_she_speaks(event: str, silence: float | None, p: float) -> None:
    given = {} if silence is None else axes(expression_silence=silence)
    assert odds(situation(event__type=event, axes=given)).occurs == pytest.approx(p)


@pytest.mark.parametrize(
    ("tension", "voice"),
    [
        (0.71, (0, 0.6, 0.4, 0)),
        (0.7, (0, 1, 0, 0)),
        (0.3, (0, 1, 0, 0)),
        (0.29, (0.4, 0.6, 0, 0)),
    ],
)
def test_voices(tension: float, voice: tuple[float, ...]) -> None:
    assert odds(situation(scene__tension=tension)).voice == pytest.approx(voice)


@pytest.mark.parametrize(
    ("value", "awareness"),
    [(0.71, 0), (0.7, 1), (0.51, 1), (0.5, 2), (0.31, 2), (0.3, 3), (-0.9, 3), (None, 2)],
)
def test_awareness(value: float | None, awareness: int) -> None:
    given = {} if value is None else axes(self_awareness=value)
    assert odds(situation(axes=given)).awareness == awareness


def test_the_strongest_emotion_leads_and_the_last_of_several() -> None:
    felt = {name: {"intensity": 0.5 if name in ("fear", "disgust") else 0.2} for name in EMOTIONS}
    assert EMOTIONS[odds(situation(emotions=felt)).dominant] == "disgust"


@pytest.mark.parametrize(
    ("register", "mean"), [("Aggressive", -0.3), ("Vulnerable", 0.1), ("Playful", 0.3), ("Guarded", -0.1)]
)
def test_valence_is_the_registers_and_a_fifth_of_her_warmth(register: str, mean: float) -> None:
    found = odds(situation(event__register=register, axes=axes(warmth_openness=-0.5)))
    assert found.valence == pytest.approx(mean - 0.1)


def test_expectations_of_what_the_heart_does() -> None:
    row = np.array(odds(situation(event__register="Guarded")).expected(V2))
    # fear (2) rises by 0.05 to 0.25, joy (0) falls by 0.05 to 0.15; half of the rises are above 0.15, and a
    # fifth of those shift
    np.testing.assert_allclose(row[33:41], [-0.1, 0, 0.15, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(row[41:49], [0, 0, 0.1, 0, 0, 0, 0, 0])


def test_drawn_labels_have_the_odds_that_are_said() -> None:
    given = odds(
        situation(
            event__register="Aggressive",
            scene__tension=0.9,
            axes=axes(self_awareness=0.6, warmth_openness=0.4, expression_silence=0.2),
        )
    )
    rng = random.Random(3)
    labels = np.array([given.draw(V1, rng) for _ in range(6000)])
    expected = np.array(given.expected(V1))
    for output in V1.of_kind("class"):
        place = V1.places[output.key]
        possible = expected[place] > 0
        found, wanted = labels[:, place].sum(axis=0), expected[place] * len(labels)
        assert not found[~possible].any()
        if possible.sum() > 1:
            assert stats.chisquare(found[possible], wanted[possible]).pvalue > 0.001, output.key
    # numbers: within 5 standard errors of their means
    error = labels.std(axis=0) / np.sqrt(len(labels)) + 1e-9
    assert (abs(labels.mean(axis=0) - expected) < 5 * error).all()
    assert labels[:, 7].tolist() == [-1] * len(labels)
    # What shifts has risen above 0.15.
    shifted = labels[:, 34:42] > 0
    assert shifted.any()
    assert (labels[:, 26:34][shifted] > 0.15).all()


def coherent(description: dict[str, Any], **labels: int) -> float:
    """Coherence with a label of each class."""
    row = np.zeros(49)
    for key, index in {"action_type": 1, "action_context": 1, "thought_awareness": 0, **labels}.items():
        row[V2.places[key.replace("_", ".")].start + index] = 1
    return coherence(description, row.tolist(), 0, V2)


def test_coherence_takes_off_what_does_not_fit() -> None:
    distrust = {name: {"central": 0.0} for name in ("trust_reliability", "trust_competence")}
    relation = distrust | {
        "trust_benevolence": {"central": 0.6},
        "affection": {"central": 0.7},
        "role": "Hub",
    }
    plain = situation(relations=[relation])
    assert coherent(plain) == 1
    # mean trust 0.2 and shared history: 0.3 of the fifth; affection and resisting: 0.2 of it
    assert coherent(plain, action_context=0) == pytest.approx(1 - 0.2 * 0.3)
    assert coherent(plain, action_type=5) == pytest.approx(1 - 0.2 * 0.2)
    # 0.3 of the scene's 0.15, and as much again for the relation
    calm = copy.deepcopy(plain) | {"scene": {"tension": 0.2}}
    assert coherent(calm, action_type=5) == pytest.approx(1 - 0.2 * 0.2 - 0.15 * 0.3)
    hidden = copy.deepcopy(plain)
    hidden["emotions"]["joy"]["awareness"] = "Defended"
    assert coherent(hidden) == pytest.approx(1 - 0.25 * 0.2)


def test_the_descriptors_are_many_and_whole() -> None:
    assert len(archetypes()) >= 280
    assert len(dynamics()) == 24
    assert len(profiles()) == 10
    assert len({profile.genre for profile in profiles().values()}) == 10
    for archetype in archetypes().values():
        assert set(archetype.axes) <= set(AXES)
        assert all(-1 <= mean <= 1 for mean in archetype.axes.values())
        assert all(0 <= mean <= 1 for mean in archetype.emotions.values())
    for sides in dynamics().values():
        for side in sides:
            assert len(side.edge) == 5
            assert side.role in ROLES
            assert set(side.axes) <= set(AXES)


def test_archetypes_have_different_axes() -> None:
    """So that a slot by position means different things, as in the engine's data."""
    assert len({tuple(archetype.axes) for archetype in archetypes().values()}) > 200
