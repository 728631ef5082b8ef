"""Each route brings PyTorch's head into a copy of what ships, and changes nothing else."""

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.heads.shipped import head_places, identity, shipped_head
from device_sim.mil import load_mil
from device_sim.routes.choosing import ROUTES, make_route
from device_sim.routes.patch import PatchRoute
from device_sim.routes.route import HeadUpdate
from device_sim.routes.state import StateRoute, overflowed, to_buffers
from device_sim.routes.task_route import UpdateTaskRoute, basis_rows, fit_shift
from device_sim.routes.verify import require_routes, verify_routes
from grpo.head import Head
from personality_common.bundle.bundle import open_bundle
from personality_common.contract import MODEL_PACKAGE
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.terminal.progress import SILENT
from pretrain.personality.export.bundle import export
from pretrain.personality.export.config import ExportConfig
from pretrain.personality.rules.family import PERSONALITY


@pytest.fixture(scope="module")
def ct() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools

        return coremltools


def check(update: Any, delivered: Any, embeddings: Any, latents: Any) -> Any:
    """Rows that no update was made from."""
    (found,) = verify_routes(update, [delivered], embeddings[60:].numpy(), latents[60:].numpy())
    return found


def test_shipped_head_is_the_runs(bundle: Any, run: Any) -> None:
    head = shipped_head(bundle)
    assert torch.equal(head.weight, run.model.projection.weight)
    assert torch.equal(head.bias, run.model.output_bias)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_all_routes_after_one_update(
    bundle: Any, make_update: Any, embeddings: Any, latents: Any, tmp_path: Path, optimizer: Any
) -> None:
    update = make_update(optimizer)
    delivered = [make_route(bundle, n).apply(update, tmp_path / f"{n}.mlpackage") for n in ROUTES]
    checks = verify_routes(update, delivered, embeddings[60:].numpy(), latents[60:].numpy())
    require_routes(checks)
    patch, task, state = checks
    assert (patch.differing, patch.error) == (0, 0.0)
    assert 0 < task.error <= 1e-6
    # One float32 rounding of each weight, of an update as large as a tenth of the head or more.
    assert task.update_error < 1e-5
    assert (state.differing, state.error) == (0, 0.0)
    # Sums of 512 products in float32, of a backbone that is not the same library's.
    assert max(c.logits_error for c in checks) < 2e-5
    assert delivered[1].figures["rows"] == ("basis" if optimizer == "adam" else "texts")
    assert delivered[1].figures["tasks"] == (9 if optimizer == "adam" else 1)


def test_logits_really_move(
    bundle: Any, make_update: Any, embeddings: Any, latents: Any, tmp_path: Path
) -> None:
    update = make_update("sgd")
    rows, known = embeddings[60:].numpy(), latents[60:]
    before = load_mil(bundle.package("model")).predict({"embedding": rows})["logits"]
    expected = (update.after.logits(known) - update.before.logits(known)).numpy()
    assert np.abs(expected).max() > 0.1
    for name in ROUTES:
        after = make_route(bundle, name).apply(update, tmp_path / f"{name}.mlpackage").predict(rows)
        # float16 heads: 11 bits of weights below 0.1, 512 of them.
        np.testing.assert_allclose(after - before, expected, atol=5e-3 if name == "state" else 2e-5)


def test_patch_is_read_back_by_apples_reader(bundle: Any, make_update: Any, tmp_path: Path, ct: Any) -> None:
    from coremltools.libmilstoragepython import _BlobStorageReader

    update = make_update("adam")
    target = tmp_path / "p.mlpackage"
    PatchRoute(bundle).apply(update, target)
    reader = _BlobStorageReader(str(target / "Data/com.apple.CoreML/weights/weight.bin"))
    for place, value in zip(head_places(bundle, "model"), update.after, strict=True):
        assert np.asarray(reader.read_float_data(place.metadata_offset)).tobytes() == value.numpy().tobytes()


def test_update_task_is_read_back_by_coremltools(
    bundle: Any, make_update: Any, tmp_path: Path, ct: Any
) -> None:
    update = make_update("sgd")
    for part in ("head", "updatable"):
        target = tmp_path / f"{part}.mlpackage"
        found = UpdateTaskRoute(bundle, part).apply(update, target)
        spec = ct.utils.load_spec(str(target))
        product = (spec.pipeline.models[1] if part == "updatable" else spec).neuralNetwork.layers[0]
        read = np.array(product.innerProduct.weights.floatValue, np.float32)
        assert read.tobytes() == found.head.weight.numpy().tobytes()
        np.testing.assert_allclose(read, update.after.weight.numpy().ravel(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("route", "part"), [("patch", "model"), ("head", "head"), ("task", "updatable")])
def test_only_the_heads_bytes_change(
    bundle: Any, make_update: Any, tmp_path: Path, contents: Any, route: Any, part: Any
) -> None:
    """Counted here by comparing whole files, without the code that proves it."""
    made = PatchRoute(bundle) if route == "patch" else UpdateTaskRoute(bundle, part)
    source, target = bundle.package(part), tmp_path / "t.mlpackage"
    before = contents(source)
    found = made.apply(make_update("sgd"), target)
    assert contents(source) == before
    after = contents(target)
    assert after.keys() == before.keys()
    changed = {n for n in before if before[n] != after[n]}
    (name,) = changed
    differing = np.flatnonzero(np.frombuffer(before[name], "u1") != np.frombuffer(after[name], "u1"))
    inside = np.zeros(len(before[name]), bool)
    for place in head_places(bundle, part):
        assert place.file == name
        inside[slice(*place.span)] = True
    assert inside[differing].all()
    assert len(differing) > 300_000
    assert found.figures["bytes"] == sum(map(len, before.values())) - 666_900
    assert found.figures["files"] == len(before)
    assert found.figures["tensors"] == (0 if part == "head" else 26)


def test_many_texts_take_several_tasks(
    bundle: Any, make_update: Any, embeddings: Any, latents: Any, tmp_path: Path
) -> None:
    update = make_update("sgd", rows=70)
    found = UpdateTaskRoute(bundle, "updatable").apply(update, tmp_path / "u.mlpackage")
    assert (found.figures["rows"], found.figures["tasks"]) == ("texts", 2)
    assert check(update, found, embeddings, latents).passed


def test_nights_in_a_row_replace_their_package(
    bundle: Any, make_update: Any, embeddings: Any, latents: Any, tmp_path: Path
) -> None:
    targets = {name: tmp_path / f"{name}.mlpackage" for name in ROUTES}
    before = None
    for _ in (1, 2):
        update = make_update("sgd", before=before)
        for name, target in targets.items():
            found = make_route(bundle, name).apply(update, target)
            assert check(update, found, embeddings, latents).passed
        before = update.after
    assert sorted(p.name for p in tmp_path.iterdir()) == ["patch.mlpackage", "update-task.mlpackage"]


def test_pipeline_refuses_what_texts_cannot_carry(bundle: Any, make_update: Any, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"must hold the update; 0\.\d+ of the head is outside"):
        UpdateTaskRoute(bundle, "updatable").apply(make_update("adam"), tmp_path / "u.mlpackage")
    assert list(tmp_path.iterdir()) == []


def test_no_update_changes_nothing(
    bundle: Any, embeddings: Any, latents: Any, tmp_path: Path, contents: Any
) -> None:
    head = shipped_head(bundle)
    update = HeadUpdate(head, head, latents[:4])
    for name, part in (("patch", "model"), ("update-task", "head")):
        found = make_route(bundle, name).apply(update, tmp_path / f"{name}.mlpackage")
        assert contents(found.package) == contents(bundle.package(part))
        assert check(update, found, embeddings, latents).passed


def test_shift_of_an_update_in_the_span_is_its_gradient(bundle: Any, latents: Any) -> None:
    """Fewer texts than dimensions: the shift is unique."""
    head = shipped_head(bundle)
    gradient = torch.randn(8, 325, generator=torch.Generator().manual_seed(1))
    after = Head(
        (head.weight.double() - gradient.T.double() @ latents[:8].double()).float(),
        (head.bias.double() - gradient.double().sum(0)).float(),
    )
    shift, left = fit_shift(HeadUpdate(head, after, latents[:8]), latents[:8].numpy())
    # `after` is rounded to float32, and latents of random texts are nearly parallel.
    np.testing.assert_allclose(shift, gradient.numpy(), atol=1e-4)
    assert left < 1e-7


def test_basis_rows_make_any_update_exactly(make_head_pair: Any) -> None:
    update = make_head_pair
    latents, shift = basis_rows(update)
    moved = Head(
        (update.before.weight.double() - torch.from_numpy(shift.T @ latents)).float(),
        (update.before.bias.double() - torch.from_numpy(shift.astype(np.float64).sum(0))).float(),
    )
    torch.testing.assert_close(moved.weight, update.after.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(moved.bias, update.after.bias, rtol=0, atol=1e-5)


@pytest.fixture
def make_head_pair(noise: Any) -> Any:
    def draw() -> Any:
        return Head(
            torch.tensor(noise.standard_normal((7, 5)), dtype=torch.float32),
            torch.tensor(noise.standard_normal(7), dtype=torch.float32),
        )

    return HeadUpdate(draw(), draw(), torch.zeros(1, 5))


def test_rounding_to_float16_is_to_nearest_even() -> None:
    """Spacing above 1 is 2**-10: ties go to the even neighbour, up and down."""
    step = 2.0**-10
    cases = {
        1 + step / 2: 1.0,
        1 + step * 1.5: 1 + 2 * step,
        1 + step * 0.5000001 + 1e-7: 1 + step,
        -(1 + step / 2): -1.0,
        2.0**-25: 0.0,
        2.0**-25 * 1.001: 2.0**-24,
        2.0**-24 * 1.5: 2.0**-23,
        65504.0: 65504.0,
        65519.0: 65504.0,
        0.1: 0.0999755859375,
        -0.0: -0.0,
    }
    given = torch.tensor(list(cases), dtype=torch.float32)
    head = Head(given[:, None], given)
    rounded = to_buffers(head)["output_bias"]
    assert rounded.dtype == np.float16
    assert rounded.astype(np.float64).tolist() == list(cases.values())
    assert np.signbit(rounded[-1])
    assert overflowed(head) == 0


def test_overflow_is_flagged(
    bundle: Any, make_update: Any, embeddings: Any, latents: Any, tmp_path: Path
) -> None:
    update = make_update("sgd")
    after = Head(update.after.weight.clone(), update.after.bias.clone())
    after.bias[4], after.weight[5, 6] = 65520.0, -1e6
    found = StateRoute(bundle).apply(replace(update, after=after), tmp_path / "unused")
    assert found.figures["overflowed"] == 2
    result = check(replace(update, after=after), found, embeddings, latents)
    assert not result.passed
    assert "2 numbers of the head are too large for float16" in result.reason


def test_what_float16_swallows_is_counted(bundle: Any, latents: Any, tmp_path: Path) -> None:
    before = shipped_head(bundle)
    after = Head(before.weight.clone(), before.bias.clone())
    after.bias[:3] = torch.nextafter(after.bias[:3], torch.tensor(9.0))
    after.weight[:, 0] += 1.0
    found = StateRoute(bundle).apply(HeadUpdate(before, after, latents[:1]), tmp_path / "unused")
    # A step of float32 is 2**-13 of one of float16; a tie may still turn one.
    assert found.figures["swallowed"] == 3
    assert not (tmp_path / "unused").exists()


def test_float16_bundle(run: Any, make_update: Any, embeddings: Any, latents: Any, tmp_path: Path) -> None:
    """The package's own head is float16 there: the patch is the rounded head."""
    export(ExportConfig(run.path, tmp_path / "b", precision="float16", only=("model",)), SILENT)
    bundle = open_bundle(tmp_path / "b", PERSONALITY)
    update = make_update("sgd")
    found = make_route(bundle, "patch").apply(update, tmp_path / "p.mlpackage")
    # The backbone's float16 is allowed for, the head's is exact.
    result = check(update, found, embeddings, latents)
    assert result.passed
    assert 0 < result.logits_error < 0.05
    assert torch.equal(found.head.weight, update.after.weight.half().float())
    assert torch.equal(found.head.bias, update.after.bias.half().float())
    with pytest.raises(ConfigError, match="has no part 'updatable': not asked for"):
        make_route(bundle, "update-task")
    with pytest.raises(ConfigError, match="has no part 'stateful'"):
        make_route(bundle, "state")
    with pytest.raises(ConfigError, match="--route must be one of"):
        make_route(bundle, "magic")
    assert torch.equal(shipped_head(bundle).weight, update.before.weight.half().float())


def test_identity_is_of_the_parameters(bundle: Any, run: Any, make_run: Any, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    export(ExportConfig(run.path, again, only=("head",)), SILENT)
    export(ExportConfig(make_run(tmp_path / "r", encoder="openai", seed=1), other, only=("head",)), SILENT)
    ours, theirs = identity(open_bundle(again, PERSONALITY)), identity(open_bundle(other, PERSONALITY))
    assert ours["vocabulary"] == theirs["vocabulary"] == identity(bundle)["vocabulary"]
    assert ours["bundle"] != theirs["bundle"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.clear(), "schema must be 1, is None"),
        (lambda m: m.pop("vocabulary"), "it must have 'vocabulary'"),
        (lambda m: m["packages"]["model"].update(file="../../etc"), "no part of a bundle is called 'model'"),
        (lambda m: m["packages"]["model"]["tensors"][0].update(file="/etc/passwd"), "must stay inside of it"),
        (lambda m: m["packages"]["model"]["tensors"][0].update(file="Data/.."), "must stay inside of it"),
        (lambda m: m.update(golden="../golden.json"), "must stay inside of it"),
        (lambda m: m["vocabulary"].update(file="/etc/passwd"), "must stay inside of it"),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": ""}}), "must stay inside of it"),
        (
            lambda m: m["packages"]["stateful"]["states"][0]["initial"].update(file="../x"),
            "must stay inside of it",
        ),
        (lambda m: m["packages"]["model"]["tensors"][0].update(size=1 << 40), "must have"),
        (lambda m: m["packages"]["model"]["tensors"][0].update(offset=-4), r"offset must be 0 to"),
        (lambda m: m["packages"]["model"]["tensors"][0].pop("file"), r"tensors\[0\] must have 'file'"),
        (
            lambda m: m["packages"]["model"]["tensors"][0].update(dtype="object"),
            "dtype must be one of float16",
        ),
    ],
)
def test_garbled_manifest(bundle: Any, tmp_path: Path, change: Any, words: Any) -> None:
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    change(manifest)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=words):
        open_bundle(tmp_path, PERSONALITY)


def test_head_that_the_manifest_does_not_know(bundle: Any, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    copy.mkdir()
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    manifest["packages"] = {"model": manifest["packages"]["model"]}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(bundle.path / MODEL_PACKAGE, copy / MODEL_PACKAGE)
    opened = open_bundle(copy, PERSONALITY)
    place = head_places(opened, "model")[0]
    with (copy / MODEL_PACKAGE / place.file).open("r+b") as file:
        file.seek(place.span[0])
        file.write(b"\x01")
    with pytest.raises(MismatchError, match=r"head of .*differ"):
        shipped_head(opened)


def test_encoder_and_inline_tensors_are_no_places(bundle: Any, tmp_path: Path) -> None:
    """The text encoder's may be int8, and small tensors may be in the program itself."""
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    frozen = next(t for t in manifest["packages"]["model"]["tensors"] if not t["updatable"])
    small = {"dtype": "int8", "size": frozen["size"] // 4, "offset": None}
    manifest["packages"]["encoder"] = {
        **manifest["packages"]["model"],
        "file": "TextEncoder.mlpackage",
        "tensors": [{**frozen, **small}],
    }
    frozen["offset"] = None
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    opened = open_bundle(tmp_path, PERSONALITY)
    assert len(opened.places("model")) == len(bundle.places("model")) - 1
    assert identity(opened) == identity(bundle)
    head = next(t for t in manifest["packages"]["model"]["tensors"] if t["name"] == "output_bias")
    head.update(dtype="int32")
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="output_bias must be float32 or float16, is int32"):
        head_places(open_bundle(tmp_path, PERSONALITY), "model")
    head["offset"] = None
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MismatchError, match=r"must have projection\.weight, output_bias once"):
        head_places(open_bundle(tmp_path, PERSONALITY), "model")
