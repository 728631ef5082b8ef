"""The store keeps heads bit for bit, and never activates one that it should not."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from device_sim.heads.record import Gate, HeadRecord, check_id
from device_sim.heads.store import HeadStore, now
from device_sim.routes.bundle import Identity
from grpo.head import Head
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.atomic import folder_lock


def bits(head):
    return tuple(tensor.numpy().tobytes() for tensor in head)


def head_file(store, version):
    return store.path / "versions" / version / "head.safetensors"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_shipped_head_is_active_and_pinned_from_the_start(store, make_head):
    (line,) = store.versions()
    assert (line.version, line.active, line.pinned) == (store.active, True, True)
    assert line.stored.record.parent is None
    assert bits(store.load(store.active)) == bits(make_head(0))


def test_a_version_is_a_safetensors_file_and_json(store, make_head, make_record):
    version = store.add(make_head(1), make_record(store.active))
    with safe_open(head_file(store, version), framework="np") as file:
        assert set(file.keys()) == {"projection.weight", "output_bias"}
        assert file.get_tensor("projection.weight").tobytes() == bits(make_head(1))[0]
        assert file.get_tensor("output_bias").tobytes() == bits(make_head(1))[1]
    content = json.loads((store.path / "versions" / version / "record.json").read_text())
    assert content["record"]["settings"] == {"learning_rate": 30.0, "loss": "dr-grpo"}
    assert content["record"]["identity"]["bundle"] == "b" * 64
    assert content["record"]["after"] == {"reward": 0.5}
    assert HeadStore(store.path).show(version).record == make_record(store.active)


def test_adding_does_not_activate(store, make_head, make_record):
    before = store.active
    store.add(make_head(1), make_record(before))
    assert store.active == before


def test_rollback_returns_the_exact_bytes_step_by_step(grown, make_head):
    store, versions = grown
    files = {v: head_file(store, v).read_bytes() for v in versions}
    for seed in (4, 3, 2, 1, 0):
        assert store.rollback() == versions[seed] == store.active
        assert bits(store.load(store.active)) == bits(make_head(seed))
    assert {v: head_file(store, v).read_bytes() for v in versions} == files
    with pytest.raises(ToolkitError, match="nothing was active before"):
        store.rollback()


def test_negative_zero_and_subnormals_survive(store, make_head, make_record):
    odd = make_head(1)
    odd.weight[0] = torch.tensor([-0.0, 1e-45, -1e-40, 3.4e38])
    version = store.add(odd, make_record(store.active))
    assert bits(store.load(version)) == bits(odd)


@pytest.mark.parametrize("name", ["bundle", "vocabulary", "encoder"])
def test_foreign_head_is_refused(store, make_head, make_record, tmp_path, name):
    identity = Identity(**{**vars(store.pointers().identity), name: "0" * 64})
    with pytest.raises(MismatchError, match=f"must belong to the store's {name}"):
        store.add(make_head(1), make_record(store.active, identity=identity))
    # It may have been copied in from the store of another bundle.
    other = HeadStore.create(tmp_path / "other", identity, make_head(9))
    shutil.copytree(other.path / "versions" / other.active, store.path / "versions" / other.active)
    before = store.active
    with pytest.raises(MismatchError, match=f"must belong to the store's {name}"):
        store.activate(other.active)
    assert store.active == before


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ((Gate("frozen", True), Gate("reward rose", False, "-0.1")), r"failed: reward rose \(-0\.1\)"),
        ((), "it has none"),
    ],
)
def test_update_that_failed_its_gates_is_refused(store, make_head, make_record, gates, words):
    before = store.active
    version = store.add(make_head(1), make_record(before, gates=gates))
    with pytest.raises(ToolkitError, match=words):
        store.activate(version)
    assert store.active == before


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("position", [-1, 100])
@pytest.mark.parametrize("file", ["head.safetensors", "record.json"])
def test_broken_checksum_is_refused(grown, file, position):
    store, versions = grown
    flip(store.path / "versions" / versions[4] / file, -3 if file == "record.json" else position)
    for change in (lambda: store.activate(versions[4]), store.rollback):
        with pytest.raises(DataError, match=r"damaged|not valid JSON"):
            change()
    assert store.active == versions[5]
    damaged = [line.version for line in store.versions() if line.damage]
    assert damaged == ([versions[4]] if file == "record.json" else [])


def test_gates_cannot_be_changed_afterwards(store, make_head, make_record):
    version = store.add(make_head(1), make_record(store.active, gates=(Gate("reward rose", False),)))

    def pass_(content):
        content["record"]["gates"][0]["passed"] = True

    edit(store.path / "versions" / version / "record.json", pass_)
    with pytest.raises(DataError, match="does not match its checksum"):
        store.activate(version)


def test_version_under_another_name_is_refused(grown):
    store, versions = grown
    (store.path / "versions" / versions[2]).rename(store.path / "versions" / "h0099-0123456789ab")
    with pytest.raises(DataError, match="must hold the record of h0099"):
        store.activate("h0099-0123456789ab")


@pytest.mark.parametrize(
    "version", ["", ".", "..", "../x", "/etc", "h0001", "h0001-0123456789ab/..", "H0001-0123456789ab", "a\0b"]
)
def test_version_is_never_a_path(store, version):
    for method in (store.load, store.show, store.activate, store.pin, store.unpin):
        with pytest.raises(DataError, match="a version is named like"):
            method(version)


def test_newline_after_an_id_is_no_id():
    with pytest.raises(DataError, match="is named like"):
        check_id("h0001-0123456789ab\n")


def test_link_out_of_the_store_is_refused(store, tmp_path):
    version = "h0007-0123456789ab"
    shutil.copytree(store.path / "versions" / store.active, tmp_path / "elsewhere")
    (store.path / "versions" / version).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="has no version"):
        store.load(version)
    path = head_file(store, store.active)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(DataError, match="must be a file"):
        store.load(store.active)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.clear(),
        lambda c: c.update(schema=2),
        lambda c: c.pop("history"),
        lambda c: c.update(active="../../x"),
        lambda c: c.update(active=7),
        lambda c: c.update(pinned=[["x"]]),
        lambda c: c.update(next=-1),
        lambda c: c.update(shape="ab"),
        lambda c: c.update(identity={"bundle": "x"}),
        lambda c: c.update(identity=[]),
    ],
)
def test_garbled_store_is_one_clear_error(store, change):
    edit(store.path / "store.json", change)
    with pytest.raises(DataError, match=r"store\.json|is named like"):
        HeadStore(store.path)


def test_garbled_record_is_one_clear_error(store, make_head, make_record):
    version = store.add(make_head(1), make_record(store.active))
    path = store.path / "versions" / version / "record.json"
    for content in (b"", b"[]", b"\xff", b"{}", b'{"schema": 1}', b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"record\.json"):
            store.show(version)


def test_no_store(tmp_path):
    with pytest.raises(DataError, match="must be a store of heads"):
        HeadStore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_store_is_not_made_over_something(store, make_head):
    with pytest.raises(ConfigError, match="has something in it"):
        HeadStore.create(store.path, store.pointers().identity, make_head(3))


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
def test_head_that_does_not_fit_is_refused(store, make_head, make_record, spoil, words):
    with pytest.raises(ToolkitError, match=words):
        store.add(spoil(make_head(1)), make_record(store.active))
    assert len(store.versions()) == 1


def test_parent_must_be_there(store, make_head, make_record):
    with pytest.raises(DataError, match="has no version"):
        store.add(make_head(1), make_record("h0042-0123456789ab"))


@pytest.mark.parametrize(
    "fields",
    [{"after": {"reward": float("nan")}}, {"settings": {"x": float("inf")}}, {"settings": {"x": object()}}],
)
def test_record_that_json_cannot_hold_is_refused(store, fields):
    with pytest.raises(ToolkitError, match=r"finite|JSON"):
        HeadRecord(store.pointers().identity, now(), **fields)


def test_prune_keeps_the_last_the_pinned_the_active_and_the_one_before(grown):
    store, versions = grown
    store.pin(versions[1])
    assert store.rollback() == versions[4]
    assert store.rollback() == versions[3]
    # Shipped 0 and 1 are pinned, 5 is the last, 3 is active, 2 was before it.
    assert store.prune(keep=1) == [versions[4]]
    assert [line.version for line in store.versions()] == [versions[i] for i in (0, 1, 2, 3, 5)]
    store.unpin(versions[1])
    assert store.prune(keep=2) == [versions[1]]
    assert store.rollback() == versions[2]
    assert store.rollback() == versions[0]
    with pytest.raises(ConfigError, match="--keep must be 1 or more"):
        store.prune(keep=0)


def test_numbers_are_not_used_twice(grown, make_head, make_record):
    store, versions = grown
    store.rollback()
    store.rollback()
    store.activate(versions[0])
    assert versions[5] in [line.version for line in store.versions()]
    store.prune(keep=1)
    added = store.add(make_head(7), make_record(versions[0]))
    assert added.startswith("h0007-")


def test_another_process_holding_the_store_is_waited_for_by_the_user(store, make_head, make_record):
    script = (
        "import sys; from pathlib import Path; from personality_common.files.atomic import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        for change in (
            lambda: store.add(make_head(1), make_record(store.active)),
            lambda: store.activate(store.active),
            store.rollback,
            lambda: store.prune(1),
        ):
            with pytest.raises(ToolkitError, match=f"process {holder.pid} is working"):
                change()
        assert store.load(store.active)
        holder.stdin.close()
    store.activate(store.active)
    with folder_lock(store.path):
        pass
