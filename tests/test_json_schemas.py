"""The JSON Schema files that the packages publish; that documents follow them, tests of the writers hold."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from personality_common.files.atomic import read_json_object
from pretrain.character import evaluation as character
from pretrain.character.quality import OutputQuality
from pretrain.lm import evaluation as lm
from pretrain.lm.answers import Calls, Sample, Share
from pretrain.lm.bits import Bits, TagBits

ROOT = Path(__file__).parents[1]
PACKAGES = ("personality_common", "pretrain", "grpo", "device_sim")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.schema.json"))


def test_each_says_what_it_is_of_and_which_version() -> None:
    assert {path.name for path in FILES} == {
        "adapters.schema.json", "capability.schema.json", "character-evaluation.schema.json",
        "companion.schema.json",
        "data.schema.json", "diff.schema.json", "doctor.schema.json",
        "evaluation.schema.json", "event.schema.json", "export.schema.json",
        "fleet.schema.json",
        "general.schema.json", "golden.schema.json", "golden_night.schema.json", "heads.schema.json",
        "lm-evaluation.schema.json", "manifest.schema.json", "measured.schema.json", "memory.schema.json",
        "night.schema.json",
        "nights.schema.json",
        "parity.schema.json", "predictions.schema.json", "record.schema.json", "run.schema.json",
        "simulation.schema.json", "store.schema.json", "trace.schema.json", "versions.schema.json",
        "week.schema.json",
    }  # fmt: skip
    for path in FILES:
        schema = read_json_object(path)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["title"], path
        assert isinstance(schema["properties"]["schema"]["const"], int), path
        assert "schema" in schema["required"], path


LM = lm.Evaluation(
    {"tools": Bits(3, 120, 1.5, 2.0, 2.5)},
    {"held-out values": Calls(4, 0.5, 0.75, None, 0.0)},
    Share(2, 1.0),
    None,
    TagBits(2, 1.0, 1.25),
    [Sample("tools", "a question", "an answer")],
)
CHARACTER = character.Evaluation(
    {"held-out cells": {"model": {"action": OutputQuality(accuracy=0.5), "mood": OutputQuality(error=0.1)}}},
    {"held-out cells": 12},
    {"held-out cells": (0.25, 0.5)},
)


@pytest.mark.parametrize(
    ("name", "found"), [("lm-evaluation", LM.to_json()), ("character-evaluation", CHARACTER.to_json())]
)
def test_evaluations_follow_theirs(name: str, found: dict[str, Any]) -> None:
    (path,) = (path for path in FILES if path.name == f"{name}.schema.json")
    schema = read_json_object(path)
    written = json.loads(json.dumps(found))
    jsonschema.validate(written, schema)
    assert set(written) == set(schema["properties"])
    for key in schema["required"]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in written.items() if k != key}, schema)
