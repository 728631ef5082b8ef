"""The JSON Schema files that the packages publish; that documents follow them, tests of the writers hold."""

from pathlib import Path

import jsonschema

from personality_common.files.atomic import read_json_object

ROOT = Path(__file__).parents[1]
PACKAGES = ("personality_common", "pretrain", "grpo", "device_sim")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.schema.json"))


def test_each_says_what_it_is_of_and_which_version() -> None:
    assert {path.name for path in FILES} == {
        "capability.schema.json", "companion.schema.json",
        "data.schema.json", "diff.schema.json", "doctor.schema.json",
        "evaluation.schema.json", "event.schema.json",
        "fleet.schema.json",
        "general.schema.json", "golden.schema.json", "golden_night.schema.json",
        "manifest.schema.json", "measured.schema.json", "night.schema.json", "nights.schema.json",
        "parity.schema.json", "record.schema.json", "run.schema.json",
        "simulation.schema.json", "store.schema.json", "week.schema.json",
    }  # fmt: skip
    for path in FILES:
        schema = read_json_object(path)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["title"], path
        assert isinstance(schema["properties"]["schema"]["const"], int), path
        assert "schema" in schema["required"], path
