"""What goes wrong on the way is noticed."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import device_sim.routes.patch as patch_module
import device_sim.routes.update_task as task_module
from device_sim.heads.shipped import head_places
from device_sim.routes.patch import PatchRoute
from device_sim.routes.task_route import UpdateTaskRoute
from device_sim.routes.untouched import require_untouched
from device_sim.routes.verify import require_routes, verify_routes
from grpo.head import Head
from personality_common.coreml.patching import patched_copy
from personality_common.errors import MismatchError, ToolkitError


@pytest.fixture
def verdict(embeddings: Any, latents: Any) -> Any:
    def verdict(update: Any, found: Any) -> Any:
        (check,) = verify_routes(update, [found], embeddings[60:].numpy(), latents[60:].numpy())
        return check

    return verdict


def frozen_byte(bundle: Any, part: Any, tensors: Any = True) -> Any:
    """Offset in a file of the package, within a frozen tensor or just before the first."""
    place = next(p for p in bundle.places(part) if not p.updatable)
    return place.file, place.offset + (2 if tensors else -1)


@pytest.mark.parametrize("inside", [True, False])
def test_frozen_byte_flipped_during_a_patch(
    bundle: Any, make_update: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: Any
) -> None:
    file, offset = frozen_byte(bundle, "model", inside)

    def slipping(source: Any, target: Any, patches: Any) -> None:
        patched_copy(source, target, patches)
        flip(target / file, offset)

    monkeypatch.setattr(patch_module, "patched_copy", slipping)
    with pytest.raises(MismatchError, match=rf"only the head may change; byte {offset}, outside of it"):
        PatchRoute(bundle).apply(make_update("sgd"), tmp_path / "p.mlpackage")


def test_frozen_byte_flipped_during_an_update_task(
    bundle: Any, make_update: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, offset = frozen_byte(bundle, "updatable")
    written = vars(task_module)["write_head"]

    def slipping(copy: Any, weight: Any, bias: Any) -> None:
        written(copy, weight, bias)
        flip(copy / file, offset)

    monkeypatch.setattr(task_module, "write_head", slipping)
    with pytest.raises(MismatchError, match=f"only the head may change; byte {offset}"):
        UpdateTaskRoute(bundle, "updatable").apply(make_update("sgd"), tmp_path / "p.mlpackage")


def flip(path: Any, offset: Any) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_source_that_was_damaged_before(bundle: Any, make_update: Any, tmp_path: Path) -> None:
    """Source and copy are then the same: only the manifest's fingerprints tell."""
    source, target = tmp_path / "s.mlpackage", tmp_path / "t.mlpackage"
    for copy in (source, target):
        shutil.copytree(bundle.package("model"), copy)
        flip(copy / frozen_byte(bundle, "model")[0], frozen_byte(bundle, "model")[1])
    with pytest.raises(MismatchError, match=r"frozen tensors of .*changed"):
        require_untouched(source, target, bundle.places("model"), head_places(bundle, "model"))


@pytest.mark.parametrize("change", ["added", "removed", "longer"])
def test_files_of_the_copy(bundle: Any, tmp_path: Path, change: Any) -> None:
    target = tmp_path / "t.mlpackage"
    shutil.copytree(bundle.package("model"), target)
    if change == "added":
        (target / "Data" / "extra").write_text("x")
    elif change == "removed":
        (target / "Manifest.json").unlink()
    else:
        with (target / "Manifest.json").open("ab") as file:
            file.write(b" ")
    with pytest.raises(MismatchError, match="must have"):
        require_untouched(
            bundle.package("model"), target, bundle.places("model"), head_places(bundle, "model")
        )


def change_patches(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    def wrong(source: Any, target: Any, patches: Any) -> None:
        weight, bias = patches
        spoiled = np.ascontiguousarray(change(patches[weight]))
        patched_copy(source, target, {weight: spoiled, bias: patches[bias]})

    monkeypatch.setattr(patch_module, "patched_copy", wrong)


SPOILED = {
    "transposed": lambda w: w.T,
    "rows rolled by one": lambda w: np.roll(w, 1, axis=0),
    "other byte order": lambda w: w.byteswap().view(np.float32),
    "one bit": lambda w: (w.view(np.uint32) ^ (np.arange(w.size).reshape(w.shape) == 77)).view(np.float32),
}


@pytest.mark.parametrize("change", SPOILED)
def test_patch_with_other_bytes(
    bundle: Any, make_update: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Any, change: Any
) -> None:
    change_patches(monkeypatch, SPOILED[change])
    update = make_update("sgd")
    result = verdict(update, PatchRoute(bundle).apply(update, tmp_path / "p.mlpackage"))
    assert not result.passed
    assert "must be the same bit for bit" in result.reason
    assert (result.differing == 1) == (change == "one bit")


def shifted_rows(
    self: Any, latents: Any, shift: Any, c_per_row: Any = None, whole: Any = task_module.UpdateTask.move
) -> Any:
    return whole(self, latents, np.roll(shift, 1, axis=1), c_per_row)


@pytest.mark.parametrize(
    ("move", "share"),
    [
        (shifted_rows, r"1\d\d%|[5-9]\d%"),
        (lambda self, latents, shift, c_per_row=None: 1, "100%"),
    ],
)
@pytest.mark.parametrize("size", [1.0, 1e-4])
def test_update_task_that_moves_other_rows_or_none(
    bundle: Any,
    make_update: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verdict: Any,
    move: Any,
    share: Any,
    size: Any,
) -> None:
    """A small update too: none of it at all would be within the tolerance of the head."""
    update = make_update("sgd")
    if size < 1:
        pairs = zip(update.before, update.after, strict=True)
        update = replace(update, after=Head(*(was + 1e-6 * (now - was) for was, now in pairs)))
        assert 0 < update.before.distance(update.after) / float(update.before.weight.norm()) < 1e-6
    monkeypatch.setattr(task_module.UpdateTask, "move", move)
    result = verdict(update, UpdateTaskRoute(bundle).apply(update, tmp_path / "t.mlpackage"))
    assert not result.passed
    assert "must be within 1e-06" in result.reason if size == 1 else "must arrive" in result.reason


def test_patch_that_does_nothing(bundle: Any, make_update: Any, tmp_path: Path, verdict: Any) -> None:
    update = make_update("sgd")
    found = PatchRoute(bundle).apply(replace(update, after=update.before), tmp_path / "p.mlpackage")
    result = verdict(update, found)
    assert not result.passed
    assert result.update_error == 1.0
    with pytest.raises(MismatchError, match="route patch: the head must be the same bit for bit"):
        require_routes([result])


def test_package_that_computes_with_another_head(
    bundle: Any, make_update: Any, tmp_path: Path, verdict: Any
) -> None:
    """The head that is read back is right, the logits are not."""
    update = make_update("sgd")
    found = PatchRoute(bundle).apply(update, tmp_path / "p.mlpackage")
    stale = PatchRoute(bundle).apply(replace(update, after=update.before), tmp_path / "q.mlpackage")
    result = verdict(update, replace(found, predict=stale.predict))
    assert not result.passed
    assert "logits must be within" in result.reason


@pytest.mark.parametrize("shape", [(512, 325), (325, 511), (324, 512)])
def test_head_of_another_shape(bundle: Any, make_update: Any, tmp_path: Path, shape: Any) -> None:
    update = replace(make_update("sgd"), after=Head(torch.zeros(shape), torch.zeros(shape[0])))
    with pytest.raises(ToolkitError, match="must be"):
        PatchRoute(bundle).apply(update, tmp_path / "p.mlpackage")
    assert list(tmp_path.iterdir()) == []


def test_nan_in_the_head(bundle: Any, make_update: Any, tmp_path: Path) -> None:
    update = make_update("sgd")
    update.after.weight[0, 0] = torch.nan
    for route in (PatchRoute(bundle), UpdateTaskRoute(bundle)):
        with pytest.raises(ToolkitError, match="finite"):
            route.apply(update, tmp_path / "p.mlpackage")
    assert list(tmp_path.iterdir()) == []
