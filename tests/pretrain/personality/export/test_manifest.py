"""The manifest: what the exporter writes, its published schema, and its one reader say the same."""

import copy
import functools
import json
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from personality_common.bundle.bundle import open_bundle, verify
from personality_common.bundle.golden import GoldenRecord
from personality_common.bundle.golden_night import GoldenNightRecord
from personality_common.bundle.manifest import Manifest, read_manifest, write_manifest
from personality_common.errors import DataError, MismatchError
from personality_common.files.typed import from_json
from pretrain.personality.rules.family import PERSONALITY

JUNK: tuple[Any, ...] = (None, True, -1, 1 << 62, 0.5, "x", [1], {"a": 1})
BY_SUM = ("size", "shape", "dtype")
"""Keys of a tensor that must also fit one another, which JSON Schema cannot say."""

Place = tuple[str | int, ...]


def published(name: str) -> Any:
    """A validator, with the schema that ships in the package."""
    schema = json.loads((resources.files("personality_common.bundle") / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def short(bundle: Path) -> dict[str, Any]:
    """A manifest in which every list and every table has one entry."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"] = dict(list(manifest["files"].items())[:1])
    manifest["tolerances"] = manifest["tolerances"][:1]
    entry = manifest["packages"]["stateful"]
    for key in ("tensors", "states", "inputs", "outputs"):
        entry[key] = entry[key][:1]
    entry["training_inputs"] = manifest["packages"]["updatable"]["training_inputs"][:1]
    manifest["packages"] = {"stateful": entry}
    return manifest


@pytest.fixture(scope="module")
def short_golden(bundle: Path) -> dict[str, Any]:
    record = json.loads((bundle / "golden" / "golden.json").read_text())
    record |= {name: [record[name][0][:1]] for name in ("top_indices", "top_tokens")}
    return record | {"texts": ["a"], "token_ids": [[1]]}


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    yield at
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*at, key))


def changed(manifest: dict[str, Any], at: Place, change: Callable[[Any, Any], None]) -> dict[str, Any]:
    whole = copy.deepcopy(manifest)
    holder: Any = whole
    for key in at[:-1]:
        holder = holder[key]
    change(holder, at[-1])
    return whole


def accepts(kind: type[Any], document: Any) -> bool:
    try:
        from_json(kind, document, "")
    except DataError:
        return False
    return True


def test_what_the_exporter_writes_is_valid(bundle: Path) -> None:
    published("manifest").validate(json.loads((bundle / "manifest.json").read_text()))
    published("golden").validate(json.loads((bundle / "golden" / "golden.json").read_text()))
    published("golden_night").validate(json.loads((bundle / "golden" / "night" / "night.json").read_text()))


def test_reading_and_writing_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path, read_manifest(bundle))
    assert (tmp_path / "manifest.json").read_bytes() == (bundle / "manifest.json").read_bytes()


@pytest.fixture(scope="module")
def short_night(bundle: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((bundle / "golden" / "night" / "night.json").read_text())
    return record | {"nights": record["nights"][-1:], "arrays": {"taste": record["arrays"]["taste"]}}


@pytest.mark.parametrize("name", ["manifest", "golden", "golden_night"])
def test_reader_and_schema_refuse_the_same(
    short: dict[str, Any], short_golden: dict[str, Any], short_night: dict[str, Any], name: str
) -> None:
    """Every place, filled with all kinds of other things in turn, and left out."""
    document, kind = {
        "manifest": (short, Manifest), "golden": (short_golden, GoldenRecord),
        "golden_night": (short_night, GoldenNightRecord),
    }[name]  # fmt: skip
    schema = published(name)
    assert schema.is_valid(document)
    assert accepts(kind, document)
    every = [at for at in places(document) if at]
    refused = 0
    for at in every:
        cases = [changed(document, at, functools.partial(put, junk)) for junk in JUNK]
        cases.append(changed(document, at, lambda holder, key: holder.pop(key)))
        for number, case in enumerate(cases):
            valid, read = schema.is_valid(case), accepts(kind, case)
            arithmetic = "tensors" in at and any(key in BY_SUM for key in at)
            assert valid == read or (valid and arithmetic), (at, number, valid)
            refused += not valid
    assert refused > 5 * len(every) > 150


def put(junk: Any, holder: Any, key: Any) -> None:
    holder[key] = junk


def test_more_keys_are_for_later_versions(short: dict[str, Any]) -> None:
    schema = published("manifest")
    for at in [at for at in places(short) if at and not isinstance(at[-1], int)]:
        later = changed(short, at, lambda holder, _: holder.update({"later": {"x": 1}}))
        assert schema.is_valid(later) == accepts(Manifest, later), at


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "personality-tokens.json",
        "golden/golden.json",
        "golden/logits.bin",
        "initial_state/output_bias.bin",
        "PersonalityHead.mlpackage",
        "PersonalityModel.mlpackage/Data/com.apple.CoreML/weights",
        "golden",
    ],
)
def test_links_in_a_bundle_are_refused(copied: Path, tmp_path: Path, name: str) -> None:
    """They lead to the very bytes that were there."""
    (copied / name).rename(tmp_path / "elsewhere")
    (copied / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link"):
        verify(open_bundle(copied, PERSONALITY))


@pytest.mark.parametrize("name", ["golden/golden.json", "personality-tokens.json", "golden/logits.bin"])
def test_missing_files_are_named(copied: Path, name: str) -> None:
    (copied / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: the manifest names it, and there is no such file"):
        verify(open_bundle(copied, PERSONALITY))


def test_an_encoder_that_is_not_the_one_of_its_fingerprint(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["encoder"]["identity"]["max_length"] += 1
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MismatchError, match="the encoder's fingerprint must be that of its identity"):
        verify(open_bundle(copied, PERSONALITY))


def test_a_verified_bundle(bundle: Path, run: Any) -> None:
    found = verify(open_bundle(bundle, PERSONALITY))
    assert found.vocabulary == run.vocabulary
    assert found.encoder == run.encoder
    assert found.run_fingerprint == run.fingerprint
    assert [part.name for part in found.parts] == ["model", "updatable", "head", "stateful"]
    assert found.golden.arrays["logits"].shape == (len(found.golden.record.top_tokens), 325)


def spoil_golden(copied: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = copied / "golden" / "golden.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g.update(schema=2), "schema must be 1, is 2"),
        (lambda g: g["arrays"].pop("latents"), r"array 'latents' must have shape \(16, 512\), has None"),
        (lambda g: g["arrays"]["logits"].update(file="../manifest.json"), "must stay inside of it"),
        (lambda g: g["arrays"]["logits"].update(file="latents.bin"), "the file has 32768"),
        (lambda g: g["arrays"]["logits"].update(shape=[325, 16]), r"as many rows each, have \[16, 325\]"),
        (lambda g: g["arrays"]["logits"].update(shape=[1 << 61] * 8), r"the file has 20800"),
        (lambda g: g["arrays"]["logits"].update(shape=[1] * 9), "at most 8 dimensions, has 9"),
        (lambda g: g["arrays"]["logits"].update(dtype="O"), "dtype must be one of"),
        (lambda g: g.update(token_ids=[[1 << 31]] * 16), "token_ids must be 2147483647 or less"),
        (lambda g: g.update(texts=["x"] * 15), r"as many rows each, have \[15, 16\]"),
        (lambda g: g.pop("top_indices"), "must have 'top_indices'"),
    ],
)
def test_garbled_golden_vectors(copied: Path, change: Callable[[dict[str, Any]], Any], words: str) -> None:
    spoil_golden(copied, change)
    with pytest.raises(DataError, match=words):
        _ = open_bundle(copied, PERSONALITY).golden
