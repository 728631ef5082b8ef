"""Descriptions to vectors and back, against a vector that was filled by hand."""

import copy
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personality_common.errors import DataError
from pretrain.character.descriptors import archetypes
from pretrain.character.features import decode_features, encode
from pretrain.character.schema import AXES, FEATURES, load_schema
from pretrain.character.synthesis import describe, draw_cells

MIRA: dict[str, Any] = {
    "name": "Mira",
    "axes": {
        "grief": {
            "central": 0.5, "variance": 0.2, "low": 0.1, "high": 0.8,
            "layer": "Bedrock", "provenance": "Authored",
        },
        "empathy": {
            "central": 0.7, "variance": 0.15, "low": 0.3, "high": 0.9,
            "layer": "Sediment", "provenance": "Authored",
        },
    },
    "emotions": {
        "joy": {"intensity": 0.6, "awareness": "Articulate"},
        "sadness": {"intensity": 0.5, "awareness": "Defended"},
    },
    "self_edge": {
        "trust_competence": 0.7, "trust_intentions": 0.6, "trust_reliability": 0.5, "affection": 0.4,
        "debt": 0.3, "history_weight": 0.6, "projection_accuracy": 0.5,
    },
    "scene": {"type": "Gravitational", "cast_size": 2, "tension": 0.6},
    "event": {"type": "Speech", "register": "Tender", "confidence": 0.9, "target_count": 1},
    "history": [{"action": "Resist", "speech": "Whisper", "awareness": "Defended", "valence": -0.25}],
}  # fmt: skip

# Counted by hand from the engine's layout: axes of 13 (slot 0 is empathy, which comes before grief),
# emotions of 6 (sadness is the fifth), then single blocks.
NONZERO = {
    0: 0.7, 1: 0.15, 2: 0.3, 3: 0.9, 5: 1, 8: 1,
    13: 0.5, 14: 0.2, 15: 0.1, 16: 0.8, 19: 1, 21: 1,
    208: 0.6, 209: 1, 232: 0.5, 236: 1,
    256: 0.7, 257: 0.6, 258: 0.5, 259: 0.4, 260: 0.3, 261: 0.6, 262: 0.5,
    383: 1, 387: 2, 388: 0.6,
    389: 1, 401: 1, 403: 0.9, 404: 1,
    410: 1, 411: 1, 418: 1, 420: -0.25,
}  # fmt: skip


def vector(values: dict[int, float]) -> np.ndarray:
    row = np.zeros(FEATURES, np.float32)
    row[list(values)] = list(values.values())
    return row


def test_v1_by_hand() -> None:
    np.testing.assert_array_equal(encode(MIRA, load_schema("v1")), vector(NONZERO))


def test_v2_moves_each_axis_to_a_slot_of_its_own() -> None:
    # empathy is the sixth of the sixteen, grief the eighth
    moved = {at + (5 * 13 if at < 13 else 6 * 13): v for at, v in NONZERO.items() if at < 208}
    rest = {at: v for at, v in NONZERO.items() if at >= 208}
    np.testing.assert_array_equal(encode(MIRA, load_schema("v2")), vector(moved | rest))


def test_a_relation_by_hand() -> None:
    value = {"central": -0.5, "variance": 0.15, "low": -0.725, "high": -0.275}
    names = ("trust_reliability", "trust_competence", "trust_benevolence", "affection", "debt")
    relation = {name: value | {"central": i / 10} for i, name in enumerate(names)}
    row = encode(MIRA | {"relations": [relation | {"role": "Hub"}, relation]}, load_schema("v2"))
    block = [x for i in range(5) for x in (i / 10, 0.15, -0.725, -0.275)]
    np.testing.assert_array_equal(row[263:287], np.array([*block, 0, 0, 1, 0], np.float32))
    # without a role: Periphery
    np.testing.assert_array_equal(row[287:311], np.array([*block, 0, 0, 0, 1], np.float32))
    assert not row[311:383].any()


def test_a_turn_may_leave_out_action_and_speech() -> None:
    row = encode(MIRA | {"history": [{"awareness": "Articulate", "valence": 1}]}, load_schema("v2"))
    # Examine is the fourth action, Conversational the second register
    assert np.flatnonzero(row[405:]).tolist() == [3, 7, 10, 15]


def test_in_v1_the_seventeenth_axis_is_dropped() -> None:
    axis = MIRA["axes"]["grief"]
    many = {f"axis_{i:02d}": axis | {"central": i / 100} for i in reversed(range(18))}
    row = encode(MIRA | {"axes": many}, load_schema("v1"))
    np.testing.assert_array_equal(row[:208:13], np.arange(16, dtype=np.float32) / np.float32(100))


def test_a_character_with_all_axes_is_the_same_in_both() -> None:
    axes = {axis: MIRA["axes"]["grief"] | {"central": i / 16} for i, axis in enumerate(AXES)}
    first, second = (encode(MIRA | {"axes": axes}, load_schema(name)) for name in ("v1", "v2"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["axes", "grief", "central"], 1.5, r"axes\.grief\.central: must be a number from -1 to 1; is 1\.5"),
        (["axes", "grief", "central"], float("nan"), r"must be a number from -1 to 1; is nan"),
        (["axes", "grief", "layer"], "Sand", r"axes\.grief\.layer: must be one of Topsoil, .*; is 'Sand'"),
        (["axes", "grief", "depth"], 1, r"axes\.grief\.depth: is not known; must be one of central, "),
        (["axes", "sorrow"], {}, r"axes\.sorrow: is not known; must be one of ambition, "),
        (["emotions", "joy", "intensity"], True, r"emotions\.joy\.intensity: must be a number .*; is True"),
        (["emotions", "hope"], {}, r"emotions\.hope: is not known; must be one of joy, "),
        (["self_edge"], None, r"self_edge: must be an object, is missing"),
        (["self_edge", "debt"], None, r"self_edge\.debt: must be a number from 0 to 1; is missing"),
        (["scene", "cast_size"], 2.5, r"scene\.cast_size: must be a whole number from 0 to 255; is 2\.5"),
        (["scene", "cast_size"], 256, r"scene\.cast_size: must be a whole number from 0 to 255; is 256"),
        (["relations"], [{}] * 6, r"relations: must be a list of at most 5, is 6 entries"),
        (["relations"], [{}], r"relations\[0\]\.trust_reliability: must be an object, is missing"),
        (["history"], {}, r"history: must be a list of at most 3, is \{\}"),
        (["history"], ["Speak"], r"history\[0\]: must be an object, is 'Speak'"),
        (
            ["event", "register"],
            ["Tender"],
            r"event\.register: must be one of .*; is \['Tender'\]",
        ),
        (["mood"], 1, r"mood: is not known; must be one of axes, "),
    ],
)
def test_errors_name_the_field_what_is_allowed_and_what_came(
    path: list[str], value: object, message: str
) -> None:
    wrong = copy.deepcopy(MIRA)
    holder = wrong
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(DataError, match=message):
        encode(wrong, load_schema("v2"))


@pytest.mark.parametrize("name", ["v1", "v2"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_back_and_forth_bit_for_bit(name: str, seed: int) -> None:
    schema = load_schema(name)
    (cell,) = draw_cells(list(archetypes()), 1, seed)
    row = encode(describe(cell, random.Random(seed)), schema)
    assert encode(decode_features(row, schema), schema).tobytes() == row.tobytes()


def test_what_comes_back_can_be_read() -> None:
    back = decode_features(encode(MIRA, load_schema("v2")), load_schema("v2"))
    assert back == {key: value for key, value in MIRA.items() if key != "name"} | {"relations": []}


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.nan, "features: must be finite, position 0 is nan"),
        (390, 1, r"event\.type: must be a one-hot of 7"),
        (383, 0.5, r"scene\.type: must be a one-hot of 4"),
        (388, 2, r"scene\.tension: must be a number from 0 to 1, is 2"),
        (263 + 24, 0.5, r"relations: must be filled from the first slot on, has only relation_01"),
    ],
)
def test_vectors_that_no_description_gives(position: int, value: float, message: str) -> None:
    row = encode(MIRA, load_schema("v2"))
    row[position] = value
    if position == 263 + 24:
        row[263 + 24 + 20] = 1
    with pytest.raises(DataError, match=message):
        decode_features(row, load_schema("v2"))
