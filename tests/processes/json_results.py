"""What a command writes with `--json`, held to the schema that is published for it."""

import json
from pathlib import Path
from typing import Any

import jsonschema

ROOT = Path(__file__).parents[2]


def followed(text: str, *schemas: str) -> Any:
    """The document, without its version; it must follow one of the schemas, named by path, and only one."""
    document = json.loads(text)
    found = [json.loads((ROOT / f"{name}.schema.json").read_text()) for name in schemas]
    wrong = [list(jsonschema.Draft202012Validator(schema).iter_errors(document)) for schema in found]
    assert sum(not errors for errors in wrong) == 1, wrong
    # Without the version it follows none: nothing is left to chance.
    assert document.pop("schema") == 1
    assert not any(jsonschema.Draft202012Validator(schema).is_valid(document) for schema in found)
    return document
