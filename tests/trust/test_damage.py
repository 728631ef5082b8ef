"""`pt inspect` says what is damaged, and exits with 1."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Pt = Callable[..., Any]
WEIGHTS = "personality_model_weights.safetensors"
PACKAGE = "PersonalityModel.mlpackage/Data/com.apple.CoreML/weights/weight.bin"


def flip(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def headed(path: Path, header: object) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))


@pytest.mark.parametrize(
    ("file", "spoil", "says"),
    [
        (f"run/{WEIGHTS}", flip, "damaged: 1 tensors are not those of the record"),
        (f"run/{WEIGHTS}", cut, "does not lie in it where it should"),
        (f"run/{WEIGHTS}", Path.unlink, "there is no such file"),
        (f"run/{WEIGHTS}", lambda path: path.write_bytes(b"x"), "not a safetensors file"),
        (f"run/{WEIGHTS}", lambda path: path.write_bytes(b"\xff" * 80), "a header of"),
        (
            f"run/{WEIGHTS}",
            lambda path: headed(path, {"a": {"dtype": "F32", "data_offsets": [0, 1 << 60]}}),
            "lie",
        ),
        (f"run/{WEIGHTS}", lambda path: headed(path, [1]), "not a safetensors file: TypeError"),
        ("run/cache", lambda path: path.symlink_to("run.json"), "must lead through no link, 'cache' is one"),
        (f"bundle/{PACKAGE}", flip, "its SHA-256 is not the one that the manifest names"),
        ("bundle/personality-tokens.json", Path.unlink, "the manifest names it, and there is no such file"),
    ],
)
def test_what_is_damaged_is_said(
    received: Path, pt: Pt, file: str, spoil: Callable[[Path], object], says: str
) -> None:
    folder = received / file.split("/")[0]
    assert pt("inspect", folder).code == 0
    spoil(received / file)
    said = pt("inspect", folder)
    assert said.code == 1
    assert says in " ".join(said.out.split())
    said = pt("inspect", folder, "--json")
    assert said.code == 1
    assert any(says in problem for problem in json.loads(said.out)["problems"])


def test_a_package_alone(received: Path, pt: Pt) -> None:
    package = received / "bundle" / "PersonalityModel.mlpackage"
    assert pt("inspect", package).code == 0
    flip(received / "bundle" / PACKAGE, 64)  # of the first entry's sentinel
    said = pt("inspect", package)
    assert said.code == 1
    assert "problem: " in said.out
