"""Heads are kept bit for bit, those of earlier schemas too; what does not fit the store is refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from device_sim.heads.heads import open_heads
from grpo.head import Head
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.tensors import save_tensors

EARLIER = Path(__file__).parent / "store-of-schema-1"
"""Written by the toolkit when a store held heads alone: four heads, the third active, the last held back."""


def bits(head: Any) -> Any:
    return tuple(tensor.numpy().tobytes() for tensor in head)


def head_file(store: Any, version: Any) -> Any:
    return store.path / "versions" / version / "head.safetensors"


def test_a_version_is_a_safetensors_file_and_json(store: Any, make_head: Any, make_record: Any) -> None:
    version = store.add(make_head(1), make_record(store.active))
    with safe_open(head_file(store, version), framework="np") as file:
        assert set(file.keys()) == {"projection.weight", "output_bias"}
        assert file.get_tensor("projection.weight").tobytes() == bits(make_head(1))[0]
        assert file.get_tensor("output_bias").tobytes() == bits(make_head(1))[1]
    weight = hashlib.sha256(b"float32\0" + b"6,4\0" + bits(make_head(1))[0]).hexdigest()
    assert version == f"h0002-{weight[:12]}"
    content = json.loads((store.path / "versions" / version / "record.json").read_text())
    assert list(content["files"]) == ["head.safetensors"]


def test_rollback_returns_the_exact_bytes_step_by_step(grown: Any, make_head: Any) -> None:
    store, versions = grown
    for seed in (4, 3, 2, 1, 0):
        assert store.rollback() == versions[seed] == store.active
        assert bits(store.load(store.active)) == bits(make_head(seed))


def test_negative_zero_and_subnormals_survive(store: Any, make_head: Any, make_record: Any) -> None:
    odd = make_head(1)
    odd.weight[0] = torch.tensor([-0.0, 1e-45, -1e-40, 3.4e38])
    version = store.add(odd, make_record(store.active))
    assert bits(store.load(version)) == bits(odd)


@pytest.mark.parametrize("name", ["bundle", "vocabulary", "encoder"])
def test_head_of_something_else_is_refused(store: Any, make_head: Any, make_record: Any, name: Any) -> None:
    identity = {**store.pointers().identity, name: "0" * 64}
    with pytest.raises(MismatchError, match=f"must belong to the store's {name}"):
        store.add(make_head(1), make_record(store.active, identity=identity))


@pytest.mark.parametrize("position", [-1, 100])
def test_broken_checksum_is_refused(grown: Any, position: Any) -> None:
    store, versions = grown
    data = bytearray(head_file(store, versions[4]).read_bytes())
    data[position] ^= 1
    head_file(store, versions[4]).write_bytes(data)
    for change in (lambda: store.activate(versions[4]), store.rollback):
        with pytest.raises(DataError, match="damaged"):
            change()
    assert store.active == versions[5]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda h: Head(h.weight.T, h.bias), "weight must be"),
        (lambda h: Head(h.weight[:-1], h.bias[:-1]), "weight must be"),
        (lambda h: Head(h.weight, h.bias[:-1]), "must be"),
        (lambda h: Head(h.weight.double(), h.bias), "float32"),
        (lambda h: Head(h.weight * torch.inf, h.bias), "finite"),
    ],
)
def test_head_that_does_not_fit_is_refused(
    store: Any, make_head: Any, make_record: Any, spoil: Any, words: Any
) -> None:
    with pytest.raises(ToolkitError, match=words):
        store.add(spoil(make_head(1)), make_record(store.active))
    assert len(store.versions()) == 1


def test_tensors_that_are_no_head_are_refused(store: Any, tmp_path: Path) -> None:
    """Whole as a file, and what the record names: the checksums are those of a hostile store."""
    path = head_file(store, store.active)
    save_tensors(path, {"projection.weight": torch.zeros(6, 4)})
    record = path.with_name("record.json")
    content = json.loads(record.read_text())
    content.pop("checksum")
    data = path.read_bytes()
    content["files"][path.name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    checksum = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    record.write_text(json.dumps(content | {"checksum": checksum}))
    with pytest.raises(DataError, match=r"must hold projection\.weight, output_bias"):
        store.load(store.active)


@pytest.fixture
def earlier(tmp_path: Path) -> Any:
    return Path(shutil.copytree(EARLIER, tmp_path / "heads"))


def content(folder: Any) -> Any:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_store_of_an_earlier_schema_is_read_and_not_written(earlier: Any, make_head: Any) -> None:
    before = content(earlier)
    store = open_heads(earlier)
    versions = store.versions()
    assert [(line.version[:5], line.active, line.pinned) for line in versions] == [
        ("h0001", False, True),
        ("h0002", False, True),
        ("h0003", True, False),
        ("h0004", False, False),
    ]
    for seed, line in enumerate(versions):
        assert bits(store.load(line.version)) == bits(make_head(seed))
    assert versions[0].stored
    assert versions[2].stored
    record = versions[2].stored.record
    assert record.parents == (versions[1].version,)
    assert (record.data, record.before) == ({"feedback": "f" * 64}, {"reward_mean": 0.25})
    assert versions[0].stored.record.parents == ()
    assert versions[0].stored.record.data == {}
    assert not any(store.audit().damage.values())
    assert store.older
    assert content(earlier) == before


def test_store_of_an_earlier_schema_is_changed(earlier: Any, make_head: Any, make_record: Any) -> None:
    """The first change brings `store.json` to the present; what an earlier one wrote stays as it is."""
    before = content(earlier / "versions")
    store = open_heads(earlier)
    third, fourth = (line.version for line in store.versions()[2:])
    with pytest.raises(ToolkitError, match="failed: frozen tensors identical"):
        store.activate(fourth)
    assert store.older
    added = store.add(make_head(7), make_record(third))
    assert added.startswith("h0005-")
    assert not open_heads(store.path).older
    store.activate(added)
    assert [store.rollback()[:5] for _ in range(3)] == ["h0003", "h0002", "h0001"]
    assert [entry.how for entry in store.pointers().log] == ["activated", *["rolled back"] * 3]
    assert bits(store.load(store.active)) == bits(make_head(0))
    after = content(earlier / "versions")
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("file", ["head.safetensors", "record.json"])
def test_damage_in_an_earlier_schema_is_found(earlier: Any, file: Any) -> None:
    path = next((earlier / "versions").glob("h0002-*")) / file
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    store = open_heads(earlier)
    with pytest.raises(DataError, match=r"damaged|not valid JSON"):
        store.rollback()
    assert [version[:5] for version, damage in store.audit().damage.items() if damage] == ["h0002"]


@pytest.mark.parametrize("lost", ["shape", "identity", "history"])
def test_garbled_store_of_an_earlier_schema_is_one_clear_error(earlier: Any, lost: Any) -> None:
    path = earlier / "store.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != lost}))
    with pytest.raises(DataError, match=rf"store\.json: must be a store of heads, lacks or garbles '{lost}'"):
        open_heads(earlier)
