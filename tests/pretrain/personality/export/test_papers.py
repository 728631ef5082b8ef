"""What a bundle has beside its packages: the tokenizer, licences, README, model card."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from personality_common.text.identity import EncoderIdentity
from pretrain.personality.export.papers import write_licenses

STRANGER = EncoderIdentity("house-encoder", "", "0" * 64, "mean", 256, 384)


def test_the_tokenizer_gives_the_golden_ids(minilm_bundle: Path) -> None:
    """Of another library, from the file as it is: the longest text is cut off, none is padded."""
    tokenizer = Tokenizer.from_file(str(minilm_bundle / "tokenizer.json"))
    golden = json.loads((minilm_bundle / "golden" / "golden.json").read_text())
    assert [tokenizer.encode(text).ids for text in golden["texts"]] == golden["token_ids"]
    assert max(map(len, golden["token_ids"])) == 256
    lines = (minilm_bundle / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert tokenizer.get_vocab() == {token: i for i, token in enumerate(lines)}


def test_the_encoders_licence(minilm_bundle: Path, openai_bundle: Path) -> None:
    place = minilm_bundle / "licenses" / "TextEncoder"
    assert (place / "LICENSE").read_bytes() == (Path(__file__).parents[4] / "LICENSE").read_bytes()
    notice = (place / "NOTICE").read_text()
    manifest = json.loads((minilm_bundle / "manifest.json").read_text())
    assert manifest["encoder"]["identity"]["weights_sha256"] in notice
    assert "sentence-transformers/all-MiniLM-L6-v2" in notice
    assert "8 bits" in notice
    assert not (openai_bundle / "licenses").exists()  # it has no weights of an encoder


def test_nothing_is_claimed_of_a_stranger(tmp_path: Path) -> None:
    source = tmp_path / "encoder"
    source.mkdir()
    write_licenses(tmp_path / "bare", STRANGER, source, "float16")
    notice = (tmp_path / "bare" / "licenses" / "TextEncoder" / "NOTICE").read_text()
    assert "Apache" not in notice
    assert "Nothing in their folder says under which licence they are" in notice
    (source / "LICENSE.md").write_text("Ours.")
    (source / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-4.0\n---\n# It\nlicense: mit\n")
    write_licenses(tmp_path / "said", STRANGER, source, "float16")
    place = tmp_path / "said" / "licenses" / "TextEncoder"
    assert {p.name: p.read_text() for p in place.iterdir() if p.name != "NOTICE"} == {
        "original-LICENSE.md": "Ours."
    }
    notice = (place / "NOTICE").read_text()
    assert "license: cc-by-4.0" in notice
    assert "mit" not in notice.replace("transmit", "")


@pytest.mark.parametrize("which", ["openai_bundle", "minilm_bundle"])
def test_the_readme_is_of_this_bundle(request: pytest.FixtureRequest, which: str) -> None:
    bundle: Path = request.getfixturevalue(which)
    manifest = json.loads((bundle / "manifest.json").read_text())
    readme = (bundle / "README.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\S+\.mlpackage)` \|.*\| ([\d.]+ .B) \|$", readme, re.M))
    assert table.keys() == {entry["file"] for entry in manifest["packages"].values()}
    for entry in manifest["packages"].values():
        number, unit = table[entry["file"]].split()
        assert float(number) == pytest.approx(entry["bytes"] / {"kB": 1e3, "MB": 1e6}[unit], abs=0.051)
    places = {(t["size"], t["offset"]) for t in manifest["packages"]["model"]["tensors"] if t["updatable"]}
    found = re.findall(r"(\d+) bytes at (\d+) of", readme)
    assert {(int(size), int(offset)) for size, offset in found} == places
    listed = set(re.findall(r"^\| `([^`]+)` \|[^|]+\|$", readme, re.M))
    assert listed == {p.name for p in bundle.iterdir()} - set(table) - {"manifest.json"}
    for part, reason in manifest["left_out"].items():
        assert f"{part}: {reason}" in readme


def test_the_model_card_says_what_the_run_says(minilm_run: Path, minilm_bundle: Path, run: Any) -> None:
    card = (minilm_bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    manifest = json.loads((minilm_bundle / "manifest.json").read_text())
    assert manifest["run"]["fingerprint"] in card
    assert "all-MiniLM-L6-v2, 384 numbers a text" in card
    assert "held out" not in card  # a run of these tests says nothing of its texts
    assert str(minilm_run) not in card


def test_the_model_card_of_a_run_that_says_more(run: Any, bundle: Path) -> None:
    from personality_common.bundle.manifest import read_manifest
    from pretrain.personality.export.papers import bundle_card

    content = dict(run.record.content) | {
        "data": {
            "source": "/home/me/chats.jsonl",
            "train_texts": 171,
            "val_texts": 9,
            "fingerprint": "f" * 64,
        },
        "quality": {"val_loss": 0.25, "val_loss_floor": 0.125, "val_top8_recall": 0.5, "epoch": 3},
    }
    card = bundle_card(replace(run, record=replace(run.record, content=content)), read_manifest(bundle))
    assert "| training texts | 171 and 9 held out, fingerprint ffff" in card
    assert "| loss, on held-out texts | 0.25 |" in card
    assert "NDCG" not in card
    assert "chats.jsonl" not in card
