"""The schema against the engine's layout, which is written out here once more, by hand."""

import hashlib
import json

import pytest

from personality_common.errors import ConfigError
from pretrain.character.schema import AXES, FEATURES, load_schema

# region: (offset, numbers, slots), as the engine's encoder lays them out
REGIONS = {
    "axes": (0, 208, 16),
    "emotions": (208, 48, 8),
    "self_edge": (256, 7, 1),
    "relations": (263, 120, 5),
    "scene": (383, 6, 1),
    "event": (389, 16, 1),
    "history": (405, 48, 3),
}
# output: (offset, numbers) in the flat row of v1
OUTPUTS = {
    "action.type": (0, 6),
    "action.confidence": (6, 1),
    "action.target": (7, 1),
    "action.valence": (8, 1),
    "action.context": (9, 5),
    "speech.occurs": (14, 1),
    "speech.register": (15, 4),
    "speech.confidence": (19, 1),
    "thought.awareness": (20, 5),
    "thought.dominant": (25, 1),
    "emotion.delta": (26, 8),
    "emotion.shift": (34, 8),
}


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_regions_lie_where_the_engine_has_them(name: str) -> None:
    found = load_schema(name).to_json()
    assert {
        region["name"]: (region["offset"], region["size"], len(region["slots"]))
        for region in found["regions"]
    } == REGIONS


def test_outputs_of_v1_lie_where_the_engine_has_them() -> None:
    places = load_schema("v1").places
    assert {key: (place.start, place.stop - place.start) for key, place in places.items()} == OUTPUTS
    heads = load_schema("v1").heads
    assert {name: (h.start, h.stop) for name, h in heads.items()} == {
        "action": (0, 14),
        "speech": (14, 20),
        "thought": (20, 26),
        "emotion": (26, 42),
    }


def test_v2_has_a_logit_for_each_emotion() -> None:
    schema = load_schema("v2")
    assert schema.size == 49
    assert schema.heads["thought"] == slice(20, 33)
    assert schema.places["thought.dominant"] == slice(25, 33)
    assert schema.places["emotion.shift"] == slice(41, 49)


@pytest.mark.parametrize(
    ("position", "name"),
    [
        (207, "axes.slot_15.provenance.Overridden"),
        (237, "emotions.sadness.awareness.Structural"),
        (262, "self_edge.projection_accuracy"),
        (263 + 24 + 8, "relations.relation_01.trust_benevolence.central"),
        (382, "relations.relation_04.role.Periphery"),
        (387, "scene.cast_size"),
        (401, "event.register.Tender"),
        (404, "event.target_count"),
        (405 + 16 + 10, "history.turn_01.awareness.Articulate"),
        (452, "history.turn_02.valence"),
    ],
)
def test_names_of_inputs(position: int, name: str) -> None:
    names = list(load_schema("v1").input_names())
    assert names[position] == name
    assert len(names) == len(set(names)) == FEATURES


def test_axes_are_in_alphabetical_order_so_that_a_full_character_is_the_same_in_both() -> None:
    assert list(AXES) == sorted(AXES)
    assert len(AXES) == 16


def test_the_fingerprint_is_of_the_exported_json() -> None:
    schema = load_schema("v2")
    text = json.dumps(schema.to_json(), sort_keys=True, separators=(",", ":"))
    assert schema.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert schema.fingerprint != load_schema("v1").fingerprint


def test_an_unknown_schema_is_refused() -> None:
    with pytest.raises(ConfigError, match="one of v1, v2, got v3"):
        load_schema("v3")
