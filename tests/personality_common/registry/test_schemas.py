"""`store.json` and `record.json` against their JSON Schema files."""

from importlib import resources
from typing import Any

import jsonschema
import pytest

from personality_common.files.atomic import read_json_object
from personality_common.registry.registry import Registry

Grown = tuple[Registry[Any], list[str]]


def schema(name: str) -> dict[str, Any]:
    with resources.as_file(resources.files("personality_common.registry") / f"{name}.schema.json") as path:
        return read_json_object(path)


@pytest.fixture
def documents(grown: Grown) -> dict[str, dict[str, Any]]:
    store, versions = grown
    (record,) = store.path.rglob(f"{versions[-1]}/record.json")
    return {"store": read_json_object(store.path / "store.json"), "record": read_json_object(record)}


@pytest.mark.parametrize("name", ["store", "record"])
def test_what_is_written_follows_it(documents: dict[str, dict[str, Any]], name: str) -> None:
    jsonschema.validate(documents[name], schema(name))


@pytest.mark.parametrize(
    ("name", "keys", "value"),
    [
        ("store", ("schema",), 3),
        ("store", ("kinds", "note", "active"), "../n0001-000000000000"),
        ("store", ("kinds", "note", "next"), 0),
        ("record", ("schema",), 1),
        ("record", ("record", "after", "reward"), "0.5"),
        ("record", ("checksum",), "a" * 63),
    ],
)
def test_what_is_wrong_is_refused(
    documents: dict[str, dict[str, Any]], name: str, keys: tuple[str, ...], value: Any
) -> None:
    place = documents[name]
    for key in keys[:-1]:
        place = place[key]
    assert keys[-1] in place
    place[keys[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(documents[name], schema(name))
