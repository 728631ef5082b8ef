"""`pt adapters`: a store's life, what changed, what goes out, and how it fails."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from json_results import followed

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.difference import difference
from device_sim.adapters.learned import LEARNED, active_file, create_adapters, open_adapters
from personality_common.cli import main
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.files.atomic import file_sha256
from personality_common.registry.record import Gate, Record
from personality_common.registry.registry import Registry

Make = Callable[..., Adapter]
LOADED = """
import sys
from personality_common.cli import main
sys.argv[:1] = ["pt", "adapters"]
try:
    main()
except SystemExit:
    print([name for name in ("torch", "transformers", "peft", "gguf") if name in sys.modules])
"""


def result(text: str) -> Any:
    """Of a command that all versions have, or of one of adapters alone."""
    return followed(text, "personality_common/registry/versions", "device_sim/adapters/adapters")


@pytest.fixture
def pt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr("personality_common.terminal.console.output.width", 200)

    def run(*arguments: Any) -> Any:
        monkeypatch.setattr(sys, "argv", ["pt", "adapters", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


def record(registry: Registry[Adapter], **changes: Any) -> Record:
    fields = {
        "identity": registry.pointers().identity,
        "created": "2026-01-02T03:04:05+00:00",
        "parents": (registry.active,),
        "settings": {"rank": 4, "learning_rate": 0.002},
        "data": {"examples": "e" * 64},
        "before": {"held_out": -2.5},
        "after": {"held_out": -1.25},
        "gates": (Gate("target", True, "+1.25"),),
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def learned(tmp_path: Path, tiny_llama: Path, make_adapter: Make) -> tuple[Path, list[str]]:
    """A companion's store after two nights, the second of which is active."""
    store = tmp_path / "companion"
    store.mkdir()
    registry = create_adapters(store, tiny_llama)
    versions = [registry.active]
    for seed in (1, 2):
        versions.append(registry.add(make_adapter(seed), record(registry)))
        registry.activate(versions[-1])
    return store, versions


def test_what_shipped_is_no_adapter(tmp_path: Path, tiny_llama: Path) -> None:
    registry = create_adapters(tmp_path, tiny_llama)
    shipped = registry.load(registry.active)
    assert (shipped.tensors, shipped.heads, shipped.kv_heads) == ({}, 4, 2)
    assert registry.pointers().identity == {"base": file_sha256(tiny_llama)}
    assert active_file(tmp_path, tiny_llama) is None
    with pytest.raises(ConfigError, match="has adapters already"):
        create_adapters(tmp_path, tiny_llama)


def test_the_active_one_is_served_where_it_belongs(
    learned: tuple[Path, list[str]], tiny_llama: Path, make_tiny_llama: Any, tmp_path: Path
) -> None:
    store, versions = learned
    found = active_file(store, tiny_llama)
    assert found is not None
    assert found == (versions[2], store / LEARNED / "versions" / versions[2] / "adapter.gguf")
    assert active_file(store, make_tiny_llama(tmp_path / "other.gguf", seed=1)) is None
    assert active_file(tmp_path / "none", tiny_llama) is None
    found[1].write_bytes(b"GGUF")
    with pytest.raises(DataError, match="damaged"):
        active_file(store, tiny_llama)


def test_one_of_another_base_is_not_kept(learned: tuple[Path, list[str]], make_adapter: Make) -> None:
    registry = open_adapters(learned[0])
    with pytest.raises(MismatchError, match="must belong to the store's base"):
        registry.add(make_adapter(3), record(registry, identity={"base": "0" * 64}))
    spoiled = make_adapter(3)
    name = next(iter(spoiled.tensors))
    tensors = {**spoiled.tensors, name: spoiled.tensors[name] * np.float32("nan")}
    with pytest.raises(DataError, match="must be finite"):
        registry.add(dataclasses.replace(spoiled, tensors=tensors), record(registry))
    foreign = dataclasses.replace(make_adapter(3), base_sha256="0" * 64)
    with pytest.raises(MismatchError, match="base"):
        registry.add(foreign, record(registry))


def test_a_life(pt: Any, learned: tuple[Path, list[str]]) -> None:
    store, versions = learned
    code, out, _ = pt("list", store)
    assert code == 0
    line = next(line for line in out.splitlines() if versions[2] in line)
    for cell in ("active", "2026-01-02", "03:04", "2.50", "1.25", "1 passed"):
        assert cell in line
    assert result(pt("rollback", store, "--json")[1]) == {"active": versions[1]}
    assert result(pt("activate", store / LEARNED, "a0003", "--json")[1]) == {"active": versions[2]}
    shown = result(pt("show", store, "a0002", "--json")[1])
    assert shown["record"]["data"] == {"examples": "e" * 64}
    assert "examples fingerprint" in pt("show", store, "a0002")[1]
    assert pt("pin", store, "a0002")[1] == f"pinned: {versions[1]}\n"
    assert result(pt("prune", store, "--keep", 1, "--yes", "--json")[1]) == {"removed": []}
    assert pt("audit", store)[0] == 0


def test_pruning_asks(pt: Any, learned: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    store, versions = learned
    pt("pin", store, versions[0], "--off")
    pt("activate", store, versions[0])
    pt("activate", store, versions[2])
    import io

    for answer, left in (("n\n", 3), ("", 3), ("y\n", 2)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code, _, err = pt("prune", store, "--keep", 1)
        assert f"Remove {versions[1]} for good?" in err
        assert len(open_adapters(store).versions()) == left
        assert code == (0 if answer == "y\n" else 130)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert pt("prune", store, "--keep", 1) == (0, "removed: none\n", "")


def test_diff_by_hand(make_adapter: Make) -> None:
    """Rank one: alpha / rank times |a| |b|; the second adapter points elsewhere."""
    empty = dataclasses.replace(make_adapter(), rank=1, alpha=3.0, tensors={})
    name = "model.layers.0.mlp.up_proj"
    a, b, c = np.zeros((1, 64), np.float32), np.zeros((96, 1), np.float32), np.zeros((96, 1), np.float32)
    a[0, 0], b[0, 0], c[1, 0] = 2.0, 1.0, 1.0
    first = dataclasses.replace(empty, tensors={f"{name}.lora_A": a, f"{name}.lora_B": b})
    second = dataclasses.replace(empty, tensors={f"{name}.lora_A": a, f"{name}.lora_B": c})
    found = difference(first, second)
    assert (found.before, found.after, found.cosine) == (6.0, 6.0, 0.0)
    assert found.difference == pytest.approx(72**0.5)
    assert [part.part for part in found.parts] == ["mlp.up_proj"]
    assert difference(first, first).parts == ()
    grown = difference(empty, first)
    assert (grown.before, grown.after, grown.difference, grown.cosine) == (0.0, 6.0, 6.0, None)
    with pytest.raises(MismatchError, match="of one base"):
        difference(first, dataclasses.replace(second, base_sha256="0" * 64))


def test_diff_is_shown(pt: Any, learned: tuple[Path, list[str]]) -> None:
    store, versions = learned
    code, out, _ = pt("diff", store, "a0001", "a0003")
    assert code == 0
    for words in ("self_attn.q_proj", "mlp.down_proj", "difference"):
        assert words in out
    found = result(pt("diff", store, "a0002", "a0003", "--json")[1])
    assert (found["before_version"], found["after_version"]) == tuple(versions[1:])
    assert abs(found["cosine"]) < 0.1


def test_export(pt: Any, learned: tuple[Path, list[str]], tiny_llama: Path, tmp_path: Path) -> None:
    store, versions = learned
    out = tmp_path / "out"
    code, said, _ = pt("export", store, "--out", out)
    assert (code, said) == (0, f"{versions[2]} in {out}: adapter.gguf, mlx, peft\n")
    served = store / LEARNED / "versions" / versions[2] / "adapter.gguf"
    assert (out / "adapter.gguf").read_bytes() == served.read_bytes()
    again = tmp_path / "again"
    arguments = ("--version", "a0002", "--formats", "gguf", "--merged", "q8_0", "--base", tiny_llama)
    done = result(pt("export", store, "--out", again, *arguments, "--json")[1])
    assert (done["version"], done["files"]) == (versions[1], ["adapter.gguf", "merged-q8_0.gguf"])


def test_refusals_are_one_line(
    pt: Any, learned: tuple[Path, list[str]], tiny_llama: Path, make_tiny_llama: Any, tmp_path: Path
) -> None:
    store, _ = learned
    out, other = tmp_path / "out", make_tiny_llama(tmp_path / "other.gguf", seed=1)
    for arguments, code, words in (
        (["list", tmp_path / "none"], 2, "does not exist"),
        (["list", tmp_path], 3, "must be a store of adapters"),
        (["show", store, "a0042-0123456789ab"], 3, "has no version"),
        (["export", store], 2, "Missing option '--out'"),
        (["export", store, "--out", out, "--formats", "ggml"], 2, "--formats must be among gguf, peft, mlx"),
        (["export", store, "--out", store], 2, "--out must be a new folder"),
        (["export", store, "--out", out, "--version", "a0001"], 2, "must have learned something"),
        (["export", store, "--out", out, "--merged", "q8_0"], 2, "must be given together"),
        (["export", store, "--out", out, "--merged", "q4_1", "--base", tiny_llama], 2, "rounded away"),
        (["export", store, "--out", out, "--merged", "f16", "--base", other], 3, "must be the base of the"),
        (["export", store, "--out", out, "--merged", "f16", "--base", tmp_path / "x"], 2, "does not exist"),
    ):
        found, printed, err = pt(*arguments)
        assert (found, printed, err.count("\n")) == (code, "", 1), (arguments, err)
        assert words in err
    assert not out.exists()


def test_a_link_in_the_store_is_refused(pt: Any, learned: tuple[Path, list[str]], tmp_path: Path) -> None:
    store, versions = learned
    file = store / LEARNED / "versions" / versions[2] / "adapter.gguf"
    file.rename(tmp_path / "moved.gguf")
    file.symlink_to(tmp_path / "moved.gguf")
    code, _, err = pt("list", store)
    assert code == 3
    assert "through no link" in err


def test_what_reads_no_tensors_loads_no_torch(learned: tuple[Path, list[str]]) -> None:
    command = [sys.executable, "-c", LOADED, "show", str(learned[0]), "a0002"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
