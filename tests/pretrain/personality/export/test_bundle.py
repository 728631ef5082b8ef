"""A bundle is complete or absent, the same each time, and made from a run that belongs together."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
import torch
import warm
from forked_workers import Forked
from json_results import followed

import pretrain.personality.export.bundle as bundle_module
from personality_common.cli import main
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.atomic import file_sha256
from personality_common.inspection.reading import PackageInspection, inspect_path
from personality_common.terminal.progress import SILENT
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig


def files(folder: Any) -> Any:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def export_head(run_folder: Any, out: Any) -> Any:
    """The quickest export."""
    return export(ExportConfig(run_folder, out, only=("head",)), SILENT)


@pytest.fixture(scope="module")
def head(run_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    out = tmp_path_factory.mktemp("head") / "out"
    export_head(run_folder, out)
    return out


def test_layout(bundle: Any, read_manifest: Any) -> None:
    manifest = read_manifest(bundle)
    assert {p.name for p in bundle.iterdir()} == {
        "PersonalityModel.mlpackage",
        "PersonalityModelUpdatable.mlpackage",
        "PersonalityHead.mlpackage",
        "PersonalityModelStateful.mlpackage",
        "personality-tokens.json",
        "initial_state",
        "golden",
        "reference",
        "manifest.json",
        "README.md",
        "MODEL_CARD.md",
    }
    assert manifest["left_out"] == {
        "encoder": "the run's encoder text-embedding-3-small gives the embedding itself and is not exported"
    }
    assert [p.name for p in bundle.parent.iterdir()] == ["bundle"]


def test_manifest_names_every_file_with_its_checksum(bundle: Any, read_manifest: Any) -> None:
    table = read_manifest(bundle)["files"]
    there = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert table.keys() == there - {"manifest.json"}
    for name, entry in table.items():
        assert entry == {"bytes": (bundle / name).stat().st_size, "sha256": file_sha256(bundle / name)}


def test_manifest_says_what_it_is_of(bundle: Any, read_manifest: Any, run: Any) -> None:
    manifest = read_manifest(bundle)
    assert manifest["schema"] == 1
    assert manifest["run"]["fingerprint"] == run.fingerprint
    assert manifest["vocabulary"]["fingerprint"] == run.record.content["vocabulary"]["fingerprint"]
    assert manifest["encoder"]["fingerprint"] == run.record.content["encoder"]["fingerprint"]
    assert manifest["encoder"]["version"] == "encoder_v1"
    assert manifest["updatable"] == ["projection.weight", "output_bias"]
    assert len(manifest["not_computed"]["tensors"]) == 8
    assert all(".q." in name or ".k." in name for name in manifest["not_computed"]["tensors"])
    model = manifest["packages"]["model"]
    assert {t["name"] for t in model["tensors"] if t["updatable"]} == {"projection.weight", "output_bias"}
    assert model["bytes"] == sum(f.stat().st_size for f in (bundle / model["file"]).rglob("*") if f.is_file())


def test_backbones_of_all_packages_are_one(bundle: Any, read_manifest: Any) -> None:
    packages = read_manifest(bundle)["packages"]
    head = {"projection.weight", "output_bias"}
    backbones = [
        {t["name"]: t["fingerprint"] for t in packages[part]["tensors"] if t["name"] not in head}
        for part in ("model", "updatable", "stateful")
    ]
    assert backbones[0] == backbones[1] == backbones[2]
    assert len(backbones[0]) == 26
    inspected = inspect_path(bundle / "PersonalityModel.mlpackage", fingerprints=True)
    assert isinstance(inspected, PackageInspection)
    recorded = inspected.model.tensors
    assert {t.fingerprint for t in recorded} == {t["fingerprint"] for t in packages["model"]["tensors"]}


def test_same_run_gives_the_same_bytes(run_folder: Any, bundle: Any, tmp_path: Path) -> None:
    """All of them, in another process with other hashes: no date, no random name, no order of a set."""
    other = os.environ | {"PYTHONHASHSEED": "7"}
    again = command(run_folder, tmp_path / "again", "--target", "iOS18")
    subprocess.run(again, env=other, check=True, capture_output=True)
    first, second = files(bundle), files(tmp_path / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_bundle_is_replaced_and_nothing_else_is(
    run_folder: Any, make_run: Any, tmp_path: Path, run: Any
) -> None:
    out = tmp_path / "out"
    export_head(run_folder, out)
    other = make_run(tmp_path / "other", encoder="openai", seed=7)
    export_head(other, out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["run"]["fingerprint"] != run.fingerprint
    strange = tmp_path / "strange"
    strange.mkdir()
    export_head(run_folder, strange)  # an empty folder is as good as none
    shutil.rmtree(strange)
    strange.mkdir()
    (strange / "thesis.doc").write_text("years of work")
    with pytest.raises(ConfigError, match=r"has files and no manifest\.json"):
        export_head(run_folder, strange)
    assert (strange / "thesis.doc").read_text() == "years of work"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is something else"):
        export_head(run_folder, tmp_path / "file")


@pytest.mark.parametrize("step", ["_build_part", "write_package", "write_golden", "manifest", "check_bundle"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, MismatchError, OSError])
def test_failure_at_any_step_leaves_what_was_there(
    run_folder: Any, head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Any, error: Any
) -> None:
    out = tmp_path / "out"
    old = Path(shutil.copytree(head, tmp_path / "old"))
    before = files(old)

    def fail(*_: object) -> None:
        raise error("stop")

    monkeypatch.setattr(bundle_module, step, fail)
    for target in (out, old):
        with pytest.raises(error):
            export_head(run_folder, target)
    assert not out.exists()
    assert files(old) == before
    assert [p.name for p in tmp_path.iterdir()] == ["old"]


def test_check_decides(run_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte that the disk changed between writing and checking."""
    write = vars(bundle_module)["write_package"]

    def write_badly(path: Any, model: Any, weights: Any) -> None:
        middle = len(model) // 2
        write(path, model[:middle] + bytes([model[middle] ^ 1]) + model[middle + 1 :], weights)

    monkeypatch.setattr(bundle_module, "write_package", write_badly)
    with pytest.raises((MismatchError, DataError)):
        export_head(run_folder, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def command(run_folder: Any, out: Any, *options: str) -> list[str]:
    return [sys.executable, *warm.PT, "export", str(run_folder), "--out", str(out), *options]


def fork(printed: Path, *arguments: Any) -> tuple[Forked, TextIO]:
    """The command in a process that has imported what this one has; and what it says on stderr."""
    read, write = os.pipe()
    with printed.open("wb") as stdout, os.fdopen(write, "wb") as stderr:
        return Forked(command(*arguments), stdout=stdout, stderr=stderr, env=os.environ), os.fdopen(read)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle(run_folder: Any, head: Path, tmp_path: Path, number: Any) -> None:
    out = Path(shutil.copytree(head, tmp_path / "out"))
    before = files(out)
    process, said = fork(tmp_path.parent / "printed", run_folder, out)
    with said:
        for line in said:
            if line.startswith("PersonalityModel.mlpackage:"):
                break
        assert (tmp_path / ".out.partial").exists()
        os.kill(process.pid, number)
        errors = said.read()
    code = process.wait()
    assert files(out) == before
    if number == signal.SIGINT:
        assert code == 130
        assert errors.splitlines()[-1] == "interrupted"
        assert [p.name for p in tmp_path.iterdir()] == ["out"]
    else:
        assert (tmp_path / ".out.partial").exists()
        export_head(run_folder, out)
        assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_space(run_folder: Any, tmp_path: Path) -> None:
    """A limit on file sizes acts as a full disk: 20 MB hold no weight file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, hard))
    try:
        process, said = fork(tmp_path.parent / "printed", run_folder, tmp_path / "out", "--only", "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with said:
        errors = said.read()
    assert process.wait() == 4
    assert (tmp_path.parent / "printed").read_text() == ""
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in errors
    assert errno.errorcode[errno.EFBIG] in line or "File too large" in line or "could not convert" in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def broken_run(run_folder: Any, tmp_path: Path) -> Any:
    return Path(shutil.copytree(run_folder, tmp_path / "broken"))


def edit_json(path: Any, change: Any) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        export_head(tmp_path / "nothing", tmp_path / "out")


def test_half_a_run(broken_run: Any, tmp_path: Path) -> None:
    (broken_run / "run.json").unlink()
    with pytest.raises(DataError, match="holds no finished run"):
        export_head(broken_run, tmp_path / "out")


def test_run_without_weights(broken_run: Any, tmp_path: Path) -> None:
    (broken_run / "personality_model_weights.safetensors").unlink()
    with pytest.raises(DataError, match="there is no such file"):
        export_head(broken_run, tmp_path / "out")


def test_weights_of_another_run(broken_run: Any, make_run: Any, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", encoder="openai", seed=5)
    name = "personality_model_weights.safetensors"
    shutil.copy(other / name, broken_run / name)
    with pytest.raises(MismatchError, match=r"must be the weights that run\.json names"):
        export_head(broken_run, tmp_path / "out")


def test_vocabulary_of_another_run(broken_run: Any, tmp_path: Path) -> None:
    def swap(value: Any) -> None:
        tokens = value["tokens"]
        tokens[0], tokens[1] = tokens[1], tokens[0]

    edit_json(broken_run / "personality-tokens.json", swap)
    with pytest.raises(MismatchError, match="must have the vocabulary in use"):
        export_head(broken_run, tmp_path / "out")


def test_projector_of_another_run(make_run: Any, tmp_path: Path) -> None:
    run, other = (make_run(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    name = "embedding_projector_weights.safetensors"
    shutil.copy(other / name, run / name)
    with pytest.raises(MismatchError, match="embedding_projector_weights"):
        export_head(run, tmp_path / "out")
    (run / name).unlink()
    with pytest.raises(DataError, match="there is no such file"):
        export_head(run, tmp_path / "out")


def test_encoder_of_another_run(make_run: Any, tmp_path: Path) -> None:
    """The run says that it was trained with other weights than MiniLM's."""
    run = make_run(tmp_path / "run")
    edit_json(run / "run.json", lambda v: v["encoder"]["identity"].update(weights_sha256="0" * 64))
    with pytest.raises(ToolkitError, match="must have the weights with SHA-256"):
        export_head(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "iOS16"}, "--target must be one of"),
        ({"precision": "int4"}, "--precision must be one of"),
        ({"encoder_weights": "int4"}, "--encoder-weights must be one of"),
        ({"only": ("heart",)}, "--only must be one of"),
        ({"only": ()}, "--only must name a part"),
        ({"only": ("stateful",)}, "needs --target iOS18"),
        ({"out": Path("run")}, "must lie outside of the run"),
        ({"out": Path("run/bundle")}, "must lie outside of the run"),
        ({"out": Path()}, "must lie outside of the run"),
    ],
)
def test_wrong_settings(settings: Any, words: Any) -> None:
    with pytest.raises(ConfigError, match=words):
        ExportConfig(**{"run": Path("run"), "out": Path("out"), **settings})


def test_encoder_asked_for_where_there_is_none(run_folder: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--only encoder: the run's encoder text-embedding-3-small gives"):
        export(ExportConfig(run_folder, tmp_path / "out", only=("encoder", "head")), SILENT)


def test_only_some_parts(run_folder: Any, tmp_path: Path) -> None:
    export_head(run_folder, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert list(manifest["packages"]) == ["head"]
    assert manifest["left_out"].keys() == {"model", "updatable", "stateful", "encoder"}
    assert [p.name for p in (tmp_path / "out").glob("*.mlpackage")] == ["PersonalityHead.mlpackage"]


def pt(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Any:
    monkeypatch.setattr(sys, "argv", ["pt", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_command(run_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """Results alone on stdout; on stderr what took how long, and nothing from the libraries."""
    out = tmp_path / "out"
    assert (
        pt(monkeypatch, "export", run_folder, "--out", out, "--only", "head", "--only", "model", "--json")
        == 0
    )
    captured = capfd.readouterr()
    result = followed(captured.out, "pretrain/personality/export/export")
    assert result["bundle"] == str(out)
    assert result["packages"] == {
        "model": "PersonalityModel.mlpackage",
        "head": "PersonalityHead.mlpackage",
    }
    starts = [line.split(":")[0] for line in captured.err.splitlines()]
    assert [s for s in starts if s in result["seconds"]] == list(result["seconds"])
    assert all("left out" in line or line.endswith(" s") for line in captured.err.splitlines())
    monkeypatch.setenv("COLUMNS", "160")
    assert pt(monkeypatch, "inspect", out) == 0
    assert "PersonalityHead.mlpackage" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["export"], 2, "Missing argument"),
        (["export", "RUN"], 2, "Missing option '--out'"),
        (["export", "RUN", "--out", "OUT", "--target", "iOS9"], 2, "Invalid value for '--target'"),
        (["export", "RUN", "--out", "OUT", "--only", "stateful"], 2, "needs --target iOS18"),
        (["export", "nowhere", "--out", "OUT"], 2, "'nowhere' does not exist"),
    ],
)
def test_command_refuses_in_one_line(
    run_folder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Any,
    code: Any,
    words: Any,
) -> None:
    named = {"RUN": run_folder, "OUT": tmp_path / "out"}
    assert pt(monkeypatch, *[named.get(a, a) for a in arguments]) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_reference_is_what_the_model_makes_of_the_runs_sample(
    bundle: Any, read_manifest: Any, run: Any
) -> None:
    sample = read_manifest(bundle)["reference"]
    latents = np.fromfile(bundle / sample["latents"]["file"], "<f2").reshape(sample["latents"]["shape"])
    top = np.fromfile(bundle / sample["top"]["file"], "<u2").reshape(sample["top"]["shape"])
    with torch.inference_mode():
        theirs = run.model.backbone(run.reference)
        logits = run.model.projection(torch.from_numpy(latents).float()) + run.model.output_bias
    assert latents.shape == (96, 512)
    np.testing.assert_array_equal(latents, theirs.half().numpy())
    assert [set(row) for row in top.tolist()] == [set(row) for row in logits.topk(8).indices.tolist()]
