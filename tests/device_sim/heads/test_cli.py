"""`pt heads`: what it prints, and how it fails."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from json_results import followed

from device_sim.heads.difference import difference
from device_sim.heads.heads import create_heads
from grpo.head import Head
from personality_common.cli import main
from personality_common.errors import MismatchError
from personality_common.registry.record import Gate
from personality_common.vocabulary import load_vocabulary

LOADED = """
import sys
from personality_common.cli import main
sys.argv[:1] = ["pt", "heads"]
try:
    main()
except SystemExit:
    print([name for name in ("torch", "coremltools") if name in sys.modules])
"""


def result(text: str) -> Any:
    """Of a command that all versions have, or of one of heads alone."""
    return followed(text, "personality_common/registry/versions", "device_sim/heads/heads")


@pytest.fixture
def pt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    # The console has read COLUMNS already, if another test imported it.
    monkeypatch.setattr("personality_common.terminal.console.output.width", 200)

    def run(*arguments: Any) -> Any:
        monkeypatch.setattr(sys, "argv", ["pt", "heads", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


@pytest.fixture
def whole(tmp_path: Path, make_head: Any, make_record: Any) -> Any:
    """A store of heads as large as ours: the shipped one, and one with two tokens changed."""
    identity = {"bundle": "b" * 64, "vocabulary": load_vocabulary().fingerprint, "encoder": "e" * 64}
    shipped = make_head(0, 325, 512)
    store = create_heads(tmp_path / "heads", identity, shipped)
    tuned = Head(shipped.weight.clone(), shipped.bias.clone())
    tuned.weight[3, :2] += 0.5
    tuned.bias[[3, 7]] = shipped.bias[[3, 7]] + tuned.bias.new_tensor([0.25, -2.0])
    record = make_record(store.active, identity=identity)
    return store, store.active, store.add(tuned, record)


def test_a_life(pt: Any, whole: Any) -> None:
    store, first, second = whole
    assert result(pt("activate", store.path, second, "--json")[1]) == {"active": second}
    code, out, _ = pt("list", store.path)
    assert code == 0
    assert "active" in next(line for line in out.splitlines() if second in line)
    assert "shipped" in next(line for line in out.splitlines() if line.startswith(first))
    listed = result(pt("list", store.path, "--json")[1])
    assert [(v["version"], v["active"], v["pinned"]) for v in listed["versions"]] == [
        (first, False, True),
        (second, True, False),
    ]
    assert result(pt("rollback", store.path, "--json")[1]) == {"active": first}
    assert store.active == first
    assert result(pt("pin", store.path, second, "--json")[1]) == {"version": second, "pinned": True}
    assert result(pt("prune", store.path, "--keep", 1, "--yes", "--json")[1]) == {"removed": []}
    assert pt("pin", store.path, second, "--off")[1] == f"unpinned: {second}\n"
    assert pt("pin", store.path, first, "--off")[0] == 0
    store.add(store.load(first), store.show(second).record)
    assert result(pt("prune", store.path, "--keep", 1, "--yes", "--json")[1]) == {"removed": [second]}


def test_show(pt: Any, whole: Any) -> None:
    store, _, second = whole
    code, out, _ = pt("show", store.path, second)
    assert code == 0
    for words in ("dr-grpo", "frozen tensors identical", "26 tensors", "0.25", "0.5", "f" * 64):
        assert words in out
    shown = result(pt("show", store.path, second, "--json")[1])
    assert shown["record"]["feedback"] == "f" * 64
    assert shown["record"]["parent"] == store.active
    assert shown["head_sha256"] == shown["files"]["head.safetensors"]["sha256"]


def test_diff_names_what_moved(pt: Any, whole: Any) -> None:
    """By hand: two weights by 0.5, norm sqrt(0.5); biases by 0.25 and -2."""
    store, first, second = whole
    tokens = load_vocabulary().tokens
    found = result(pt("diff", store.path, first, second, "--json")[1])
    assert found["weight_norm"] == pytest.approx(0.5**0.5, rel=1e-6)
    assert found["bias_norm"] == pytest.approx((0.25**2 + 2**2) ** 0.5, rel=1e-6)
    assert (found["changed_weights"], found["changed_biases"]) == (2, 2)
    assert [c["token"] for c in found["gained"]] == [tokens[3]]
    assert [c["token"] for c in found["lost"]] == [tokens[7]]
    assert [(c["token"], round(c["weight"], 5)) for c in found["turned"]] == [(tokens[3], 0.70711)]
    code, out, _ = pt("diff", store.path, first, second)
    assert code == 0
    assert tokens[3] in out
    assert tokens[7] in out


def test_diff_of_a_head_with_itself(make_head: Any) -> None:
    head = make_head(0)
    found = difference(head, head, list("abcdef"))
    assert (found.relative, found.gained, found.lost, found.turned) == (0.0, (), (), ())
    with pytest.raises(MismatchError, match="must have the same shape and 5 rows"):
        difference(head, head, list("abcde"))


def test_diff_of_another_vocabulary(pt: Any, make_head: Any, make_record: Any, tmp_path: Path) -> None:
    tokens = [f"token {i}" for i in range(325)]
    path = tmp_path / "personality-tokens.json"
    path.write_text(json.dumps({"tokens": tokens}))
    identity = {"vocabulary": load_vocabulary(path).fingerprint}
    store = create_heads(tmp_path / "heads", identity, make_head(0, 325, 8))
    tuned = Head(make_head(0, 325, 8).weight, make_head(0, 325, 8).bias)
    tuned.bias[5] += 1
    store.add(tuned, make_record(store.active, identity=identity))
    code, _, err = pt("diff", store.path, "h0001", "h0002")
    assert (code, err.count("\n")) == (3, 1)
    assert "vocabulary of the toolkit" in err
    assert "--tokens" in err
    found = result(pt("diff", store.path, "h0001", "h0002", "--tokens", path, "--json")[1])
    assert [c["token"] for c in found["gained"]] == ["token 5"]
    assert found["after"].startswith("h0002-")


@pytest.mark.parametrize("width", [80, 120])
def test_list_shows_reward_and_drift_and_whole_ids(
    pt: Any, grown: Any, monkeypatch: pytest.MonkeyPatch, width: Any
) -> None:
    store, versions = grown
    monkeypatch.setattr("personality_common.terminal.console.output.width", width)
    lines = pt("list", store.path)[1].splitlines()
    assert max(map(len, lines)) <= width
    line = next(line for line in lines if versions[3] in line)
    for cell in ("2026-01-02", "+0.25", "0.75", "1 passed"):
        assert cell in line


def test_prune_shows_what_it_would_do(pt: Any, grown: Any) -> None:
    store, versions = grown
    code, out, _ = pt("prune", store.path, "--keep", 3, "--dry-run")
    assert (code, out) == (0, f"would remove: {versions[1]}, {versions[2]}\n")
    found = result(pt("prune", store.path, "--keep", 3, "--dry-run", "--json")[1])
    assert found == {"would_remove": versions[1:3]}
    assert len(store.versions()) == 6
    assert result(pt("prune", store.path, "--keep", 3, "--yes", "--json")[1]) == {"removed": versions[1:3]}


def test_audit(pt: Any, grown: Any) -> None:
    store, versions = grown
    code, out, _ = pt("audit", store.path)
    assert code == 0
    assert out.count("as recorded") == 6
    assert out.count("activated") == 5
    (store.path / "versions" / versions[2] / "head.safetensors").write_bytes(b"")
    code, out, _ = pt("audit", store.path, "--json")
    found = result(out)
    assert (code, len(found["log"])) == (1, 6)
    assert "damaged" in found["damage"][versions[2]]
    assert found["damage"][versions[1]] is None


def test_change_of_an_earlier_schema_is_said(pt: Any, tmp_path: Path) -> None:
    path = shutil.copytree(Path(__file__).parent / "store-of-schema-1", tmp_path / "heads")
    assert pt("list", path)[2] == ""
    code, out, err = pt("rollback", path)
    assert (code, out[:14], err.count("\n")) == (0, "active: h0002-", 1)
    assert "brought to the present schema" in err
    assert pt("rollback", path)[2] == ""
    assert "rolled back" in pt("audit", path)[1]


def test_refusals_are_one_line(pt: Any, store: Any, make_head: Any, make_record: Any, tmp_path: Path) -> None:
    failed = store.add(make_head(1), make_record(store.active, gates=(Gate("reward rose", False),)))
    before = store.active
    for arguments, code, words in (
        (["list", tmp_path / "none"], 2, "does not exist"),
        (["list", tmp_path], 3, "must be a store of heads"),
        (["list"], 2, "Missing argument"),
        (["activate", store.path, "../../x"], 3, "is named like"),
        (["activate", store.path, failed], 4, "failed: reward rose"),
        (["show", store.path, "h0042-0123456789ab"], 3, "has no version"),
        (["rollback", store.path], 4, "nothing was active before"),
        (["prune", store.path], 2, "Missing option '--keep'"),
        (["prune", store.path, "--keep", 0], 2, "Invalid value for '--keep'"),
    ):
        found, out, err = pt(*arguments)
        assert (found, out, err.count("\n")) == (code, "", 1), arguments
        assert words in err
    assert store.active == before


def test_damaged_version_is_listed_as_such(pt: Any, grown: Any) -> None:
    store, versions = grown
    (store.path / "versions" / versions[2] / "record.json").write_text("[bold]{")
    code, out, _ = pt("list", store.path)
    assert code == 0
    assert "damaged" in next(line for line in out.splitlines() if versions[2] in line)


def test_what_reads_no_head_loads_no_torch(grown: Any) -> None:
    store, versions = grown
    for arguments in (["--help"], ["pin", str(store.path), versions[1]], ["list", str(store.path)]):
        command = [sys.executable, "-c", LOADED, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]", arguments
