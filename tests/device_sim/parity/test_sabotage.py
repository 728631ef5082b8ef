"""What must make parity fail, with the right words; and again with a manifest that was made to fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sim.parity.compare import check_parity
from device_sim.parity.config import ParityConfig
from device_sim.parity.report import Report
from personality_common.coreml.proto import Model_pb2
from personality_common.terminal.progress import SILENT

MODEL = "PersonalityModel.mlpackage"
PROGRAM = "Data/com.apple.CoreML/model.mlmodel"

Spoil = Callable[[Path], None]


def check(bundle: Path, run: Path | None = None) -> Report:
    return check_parity(ParityConfig(bundle, runtimes=("torch", "mil"), run=run), SILENT)


def words(report: Report) -> str:
    return "\n".join(f"{c.package} {c.runtimes} {c.name}: {c.detail}" for c in report.failures)


def numeric(report: Report, pair: str) -> list[str]:
    return [c.name for c in report.failures if c.runtimes == pair]


def tensor(bundle: Path, name: str) -> dict[str, Any]:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (found,) = [t for t in manifest["packages"]["model"]["tensors"] if t["name"] == name]
    return found


def rewrite(bundle: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Overwrite a tensor of the model's package; nothing else changes."""
    place = tensor(bundle, name)
    path = bundle / MODEL / place["file"]
    data = bytearray(path.read_bytes())
    old = np.frombuffer(bytes(data), "<f4", int(np.prod(place["shape"])), place["offset"])
    new = np.ascontiguousarray(change(old.reshape(place["shape"]).copy()))
    data[place["offset"] : place["offset"] + place["size"]] = new.astype("<f4").tobytes()
    path.write_bytes(data)


def break_a_byte(bundle: Path) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        array.view(np.uint8)[7, 4 * 11 + 3] = 0x43  # sign and exponent: a weight of some hundreds
        return array

    rewrite(bundle, "encoder.0.ffn_in.weight", change)


def transpose(bundle: Path) -> None:
    rewrite(bundle, "encoder.1.attention.v.weight", lambda array: array.T)


def swap_rows(bundle: Path) -> None:
    """Two tokens, swapped in what the head computes."""

    def change(array: np.ndarray) -> np.ndarray:
        array[[3, 7]] = array[[7, 3]]
        return array

    rewrite(bundle, "projection.weight", change)
    rewrite(bundle, "output_bias", change)


def tanh_gelu(bundle: Path) -> None:
    path = bundle / MODEL / PROGRAM
    model = Model_pb2.Model.FromString(path.read_bytes())
    (block,) = model.mlProgram.functions["main"].block_specializations.values()
    changed = 0
    for operation in block.operations:
        if operation.type != "const":
            continue
        strings = operation.attributes["val"].immediateValue.tensor.strings.values
        if list(strings) == ["EXACT"]:
            strings[0] = "TANH_APPROXIMATION"
            changed += 1
    assert changed == 2, "one for each layer"
    path.write_bytes(model.SerializeToString())


CASES = [
    pytest.param(
        break_a_byte,
        "encoder.0.ffn_in.weight has another fingerprint: 1048576 bytes",
        "encoder.0.ffn_in.weight is not the run's: 1 of 1048576 values differ, first at [7, 11]",
        "agrees up to encoder.0.ffn_norm, then differs",
        id="byte",
    ),
    pytest.param(
        transpose,
        "encoder.1.attention.v.weight has another fingerprint: it is transposed",
        "encoder.1.attention.v.weight is not the run's: it is transposed",
        "agrees up to encoder.1.attention_norm, then differs",
        id="transposed",
    ),
    pytest.param(
        swap_rows,
        "projection.weight has another fingerprint: rows 3 and 7 are swapped",
        "projection.weight is not the run's: rows 3 and 7 are swapped",
        "agrees up to encoder.1.ffn_out, then differs",
        id="rows",
    ),
]


@pytest.mark.parametrize(("spoil", "print_words", "run_words", "depth_words"), CASES)
def test_weights(
    small: Path,
    run_folder: Path,
    amend_manifest: Spoil,
    spoil: Spoil,
    print_words: str,
    run_words: str,
    depth_words: str,
) -> None:
    spoil(small)
    if "1048576 bytes" in print_words:  # no other package of this bundle has the true tensor
        print_words = print_words.replace("1048576 bytes", "4194304 bytes at its place are others")
    found = check(small)
    assert not found.passed
    assert print_words in words(found)
    assert "weight.bin has another SHA-256" in words(found)
    # The mirror holds the same broken weights, so it is the golden vectors that tell.
    assert not numeric(found, "mil / torch")
    assert "logits: max |difference|" in numeric(found, "mil / golden")

    amend_manifest(small)
    found = check(small)
    assert "fingerprint" not in words(found).replace("has another fingerprint than", "")
    assert "SHA-256" not in words(found)
    assert "logits: max |difference|" in numeric(found, "mil / golden")
    assert "logits: max |difference|" in numeric(found, "torch / golden")

    found = check(small, run_folder)
    assert run_words in words(found)
    assert depth_words in words(found)
    assert "logits: max |difference|" in numeric(found, "mil / torch")
    assert not numeric(found, "torch / golden")


def test_tanh_in_place_of_erf(small: Path, amend_manifest: Spoil) -> None:
    tanh_gelu(small)
    amend_manifest(small)
    found = check(small)
    assert "is computed as TANH_APPROXIMATION, the model's is EXACT" in words(found)
    assert "layers: relative difference on the way" in numeric(found, "mil / torch")
    assert "agrees up to encoder.0.ffn_in, then differs by" in words(found)
    assert "at encoder.0.ffn_out (gelu %" in words(found)


def test_a_bit_that_no_number_shows(small: Path) -> None:
    def change(array: np.ndarray) -> np.ndarray:
        array.view(np.uint8)[0, 0] ^= 1
        return array

    rewrite(small, "input_projection.weight", change)
    found = check(small)
    assert "input_projection.weight has another fingerprint" in words(found)
    assert not [c for c in found.failures if c.runtimes]


def test_tokens_swapped_in_a_package(small: Path, amend_manifest: Spoil) -> None:
    path = small / MODEL / PROGRAM
    model = Model_pb2.Model.FromString(path.read_bytes())
    own = model.description.metadata.userDefined
    tokens = own["vocabulary"].split(",")
    tokens[3], tokens[7] = tokens[7], tokens[3]
    own["vocabulary"] = ",".join(tokens)
    # Every byte of the package stays where it is: the two names trade places.
    path.write_bytes(model.SerializeToString(deterministic=True))
    amend_manifest(small)
    found = check(small)
    assert f"{MODEL} has tokens 3 and 7 swapped" in words(found)
    assert repr(tokens[3]) in words(found)


def test_tokens_swapped_everywhere(small: Path, run_folder: Path, amend_manifest: Spoil) -> None:
    """The vocabulary file, its fingerprint and all metadata agree; the golden tokens do not."""
    from personality_common.vocabulary import load_vocabulary

    path = small / "personality-tokens.json"
    record = json.loads(path.read_text())
    golden = json.loads((small / "golden" / "golden.json").read_text())
    first, second = golden["top_indices"][0][:2]
    tokens = record["tokens"]
    tokens[first], tokens[second] = tokens[second], tokens[first]
    path.write_text(json.dumps(record))
    vocabulary = load_vocabulary(path)
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["vocabulary"]["fingerprint"] = vocabulary.fingerprint
    (small / "manifest.json").write_text(json.dumps(manifest))
    for package in (MODEL, "PersonalityHead.mlpackage"):
        file = small / package / PROGRAM
        model = Model_pb2.Model.FromString(file.read_bytes())
        model.description.metadata.userDefined["vocabulary"] = vocabulary.joined()
        model.description.metadata.userDefined["vocabulary_fingerprint"] = vocabulary.fingerprint
        file.write_bytes(model.SerializeToString(deterministic=True))
    amend_manifest(small)
    found = check(small)
    assert f"by output {first}, which personality-tokens.json calls {tokens[first]!r}" in words(found)
    low, high = sorted((first, second))
    assert f"the run has tokens {low} and {high} swapped" in words(check(small, run_folder))


def test_updatable_backbone(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["packages"]["model"]["tensors"][5]["updatable"] ^= True
    name = manifest["packages"]["model"]["tensors"][5]["name"]
    (small / "manifest.json").write_text(json.dumps(manifest))
    assert f"{name} is marked" in words(check(small))


def test_a_tensor_left_out_of_the_manifest(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    del manifest["packages"]["head"]["tensors"][0]
    (small / "manifest.json").write_text(json.dumps(manifest))
    assert "the manifest names 1 of 2 parameters" in words(check(small))


def test_wider_tolerances(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    (wide,) = [t for t in manifest["tolerances"] if t["name"] == "float32.logits"]
    wide["value"] = 1.0
    (small / "manifest.json").write_text(json.dumps(manifest))
    assert "float32.logits is <= 1, must be <= 0.0001 or tighter" in words(check(small))


def test_initial_state(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    path = copy / "initial_state" / "output_bias.bin"
    data = bytearray(path.read_bytes())
    data[1] ^= 0x40
    path.write_bytes(data)
    found = check(copy)
    assert "initial state output_bias has another fingerprint" in words(found)
    assert [c.package for c in found.failures if c.runtimes == "mil / golden"] == [
        "PersonalityModelStateful.mlpackage"
    ] * len(numeric(found, "mil / golden"))
    assert numeric(found, "mil / golden")
