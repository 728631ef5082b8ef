"""The Rust and C# of docs/character.md are not compiled here; what they say of names and sizes must hold."""

import re
from pathlib import Path

import pytest

from pretrain.character.bundle.manifest import INPUT, ONNX_FILE
from pretrain.character.export.onnx import IR_VERSION, OPSET
from pretrain.character.schema import ACTIONS, DEFAULT_SCHEMA, FEATURES, HEADS, load_schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "character.md").read_text()
README = (ROOT / "README.md").read_text()
SCHEMA = load_schema(DEFAULT_SCHEMA)
SIZES = {head: place.stop - place.start for head, place in SCHEMA.heads.items()}


def code(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)
    return str(found)


@pytest.mark.parametrize("language", ["rust", "csharp"])
def test_names_and_sizes(language: str) -> None:
    text = code(language)
    names = set(re.findall(r'"(\w+)"', text))
    assert INPUT in names
    assert names & set(HEADS)
    assert names <= {INPUT, *HEADS}
    assert set(re.findall(r'"([\w.]+\.onnx)"', text)) <= {ONNX_FILE}
    # The input's row, and of each line that reads a head the size that its comment states.
    assert re.search(rf"1(usize)?, {FEATURES}\b", text)
    stated = [(head, int(size)) for head, size in re.findall(r'"(\w+)".*// (\d+)$', text, re.M)]
    assert stated == [(head, SIZES[head]) for head, _ in stated] != []


def test_the_rust_loop_is_over_the_actions() -> None:
    assert f"(0..{len(ACTIONS)})" in code("rust")


def table(text: str) -> dict[str, tuple[str, ...]]:
    """Name -> sizes, of the places that say `name` (batch, size)."""
    rows = re.findall(r"`(\w+)`\s*\|?\s*\(batch, (\d+)\)", text)
    # Of `v1` the page says how it differs.
    return {name: tuple(size for other, size in rows if other == name) for name, _ in rows if name != "v1"}


@pytest.mark.parametrize("text", [PAGE, README], ids=["character.md", "README.md"])
def test_the_interface_is_the_schemas(text: str) -> None:
    wanted = {INPUT: (str(FEATURES),)} | {head: (str(size),) for head, size in SIZES.items()}
    assert table(text) == wanted
    assert f"opset {OPSET}" in text
    assert f"IR version {IR_VERSION}" in text


def test_the_page_has_every_offset_and_class() -> None:
    rows = re.findall(r"^\| (?:`(\w+)`)? ?\| (\d+)(?:–(\d+))? \| (.*?) \|", PAGE, re.M)
    head, found = "", []
    for name, first, last, what in rows:
        head = name or head
        found.append((head, int(first), int(last or first), what))
    wanted = [
        (o.head, SCHEMA.places[o.key].start - SCHEMA.heads[o.head].start, o.size) for o in SCHEMA.outputs
    ]
    assert [(h, first, last - first + 1) for h, first, last, _ in found] == wanted
    for (_, _, _, what), output in zip(found, SCHEMA.outputs, strict=True):
        if output.kind == "class":
            assert what.endswith(": " + ", ".join(output.labels))
