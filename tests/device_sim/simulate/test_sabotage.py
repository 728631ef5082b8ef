"""Each way in which an update can go wrong must end in a failed verdict or an error that names it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from device_sim.heads.shipped import open_shipped, shipped_head
from device_sim.routes.choosing import make_route
from device_sim.routes.route import Delivered, HeadUpdate
from device_sim.simulate.simulation import Simulation
from grpo.config import GRPOConfig
from grpo.head import Head
from personality_common.errors import DataError, MismatchError, ToolkitError
from personality_common.files.atomic import file_sha256
from personality_common.registry.registry import Registry

FROZEN = "frozen tensors bit-identical"
OTHER = "every other byte of the package identical"
ROUTES = "routes agree with PyTorch's head"
RUNTIMES = "runtimes agree (mil, torch)"
Run = Callable[..., Simulation]
Statuses = Callable[[Simulation], dict[str, str]]


@pytest.fixture
def sabotage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Spoil what a route is given (`before`) or what it leaves (`after`)."""

    def install(
        before: Callable[[HeadUpdate], HeadUpdate] = lambda update: update,
        after: Callable[[Any, Delivered], None] = lambda bundle, delivered: None,
    ) -> None:
        class Spoiling:
            def __init__(self, bundle: Any, name: str) -> None:
                self.bundle, self.name, self.route = bundle, name, make_route(bundle, name)
                self.part = self.route.part

            def apply(self, update: HeadUpdate, target: Path) -> Delivered:
                delivered = self.route.apply(before(update), target)
                after(self.bundle, delivered)
                return delivered

        monkeypatch.setattr("device_sim.simulate.lives.make_route", Spoiling)

    return install


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


def test_nothing_fails_without_sabotage(run_small: Run, statuses: Statuses, sabotage: Any) -> None:
    sabotage()
    assert set(statuses(run_small()).values()) == {"passed"}


@pytest.mark.parametrize("byte", ["first", "last"])
def test_frozen_byte_flipped_during_an_update(
    run_small: Run, statuses: Statuses, sabotage: Any, byte: str
) -> None:
    def spoil(bundle: Any, delivered: Delivered) -> None:
        place = next(p for p in bundle.places("model") if p.name == "encoder.1.ffn_out.weight")
        flip(delivered.package / place.file, place.offset + (0 if byte == "first" else place.size - 1))

    sabotage(after=spoil)
    result = run_small()
    found = statuses(result)
    assert (found[FROZEN], found[OTHER]) == ("failed", "failed")
    assert "encoder.1.ffn_out.weight" in next(x.detail for x in result.checks if x.name == FROZEN)
    assert not any(night.delivery.activated for night in result.nights)
    assert not result.passed


def test_byte_outside_of_all_tensors_flipped(run_small: Run, statuses: Statuses, sabotage: Any) -> None:
    """In the padding between two tensors, where no fingerprint looks."""

    def spoil(bundle: Any, delivered: Delivered) -> None:
        place = next(p for p in bundle.places("model") if p.name == "output_bias")
        flip(delivered.package / place.file, place.metadata_offset + 40)

    sabotage(after=spoil)
    found = statuses(run_small())
    assert (found[FROZEN], found[OTHER]) == ("passed", "failed")


def test_file_added_to_the_package(run_small: Run, statuses: Statuses, sabotage: Any) -> None:
    sabotage(after=lambda _, delivered: (delivered.package / "extra").write_bytes(b""))
    found = statuses(run_small())
    assert (found[FROZEN], found[OTHER]) == ("passed", "failed")


def test_update_applied_to_the_wrong_rows(run_small: Run, statuses: Statuses, sabotage: Any) -> None:
    def spoil(update: HeadUpdate) -> HeadUpdate:
        moved = [
            was + torch.roll(now - was, 1, 0) for was, now in zip(update.before, update.after, strict=True)
        ]
        return replace(update, after=Head(*moved))

    sabotage(before=spoil)
    result = run_small(nights=_one_night())
    found = statuses(result)
    assert (found[ROUTES], found[RUNTIMES], found["head changed"]) == ("failed", "failed", "passed")
    assert not any(night.delivery.activated for night in result.nights)


def test_transposed_patch(run_small: Run, statuses: Statuses, sabotage: Any) -> None:
    def spoil(update: HeadUpdate) -> HeadUpdate:
        weight = update.after.weight
        return replace(update, after=Head(weight.T.reshape(weight.shape).contiguous(), update.after.bias))

    sabotage(before=spoil)
    found = statuses(run_small(nights=_one_night()))
    assert (found[ROUTES], found[RUNTIMES], found[FROZEN]) == ("failed", "failed", "passed")


def test_update_that_does_nothing(run_small: Run, statuses: Statuses, sabotage: Any) -> None:
    sabotage(before=lambda update: replace(update, after=update.before))
    found = statuses(run_small())
    assert (found["head changed"], found[ROUTES]) == ("failed", "failed")
    assert found["head restored bit for bit by rollback"] == "failed"


def test_rollback_that_gives_another_head(
    run_small: Run, statuses: Statuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number of the shipped head, off by its last bit."""
    load = Registry.load

    def nearly(store: Registry[Head], version: str) -> Head:
        head = load(store, version)
        if version.startswith("h0001"):
            head.bias[7] = torch.nextafter(head.bias[7], torch.tensor(1.0))
        return head

    monkeypatch.setattr(Registry, "load", nearly)
    found = statuses(run_small(nights=_one_night()))
    assert found.pop("head restored bit for bit by rollback") == "failed"
    assert set(found.values()) == {"passed"}


def test_rollback_to_the_wrong_version(
    run_small: Run, statuses: Statuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it went back, and the head stays."""
    monkeypatch.setattr(Registry, "rollback", lambda store: store.active)
    found = statuses(run_small(nights=_one_night()))
    assert found["head restored bit for bit by rollback"] == "failed"


def test_step_too_small_for_float32(run_small: Run) -> None:
    with pytest.raises(ToolkitError, match="no weight moved in float32"):
        run_small(grpo=GRPOConfig(inner_iterations=1, learning_rate=1e-12, gate=None))


def test_swapped_vocabulary(spoilt: Path, run_small: Run) -> None:
    file = spoilt / "personality-tokens.json"
    tokens = json.loads(file.read_text())["tokens"]
    tokens[3], tokens[4] = tokens[4], tokens[3]
    file.write_text(json.dumps({"tokens": tokens}))
    with pytest.raises(MismatchError, match=r"personality-tokens.json: must have the vocabulary in use"):
        run_small(bundle=spoilt)
    # A manifest that was made to fit it does not help: the package names its tokens itself.
    manifest = json.loads((spoilt / "manifest.json").read_text())
    manifest["files"]["personality-tokens.json"]["sha256"] = file_sha256(file)
    manifest["vocabulary"]["fingerprint"] = _fingerprint(file)
    (spoilt / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MismatchError, match="metadata must name the tokens"):
        run_small(bundle=spoilt)


def test_damaged_bundle(spoilt: Path) -> None:
    flip(spoilt / "golden" / "golden.json", 10)
    with pytest.raises(DataError, match=r"golden.json: must have the SHA-256"):
        open_shipped(spoilt)


def some_nan(texts: Any, actions: Any, night: int, generator: torch.Generator) -> torch.Tensor:
    rewards = (actions % 7).float().mean(-1)
    rewards[:, 0] = torch.nan
    return rewards


def all_nan(texts: Any, actions: Any, night: int, generator: torch.Generator) -> torch.Tensor:
    return torch.full(actions.shape[:2], torch.nan)


def infinite(texts: Any, actions: Any, night: int, generator: torch.Generator) -> torch.Tensor:
    return torch.full(actions.shape[:2], torch.inf)


def raising(texts: Any, actions: Any, night: int, generator: torch.Generator) -> torch.Tensor:
    raise KeyError("a text of the user")


@pytest.fixture
def own_users(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    module = types.ModuleType("own_users")
    for function in (some_nan, all_nan, infinite, raising):
        setattr(module, function.__name__, function)
    monkeypatch.setitem(sys.modules, "own_users", module)


@pytest.mark.usefixtures("own_users")
def test_nan_in_rewards(run_small: Run, statuses: Statuses) -> None:
    """NaN is no feedback: three of four candidates count; with none the head stays, and the verdict fails."""
    result = run_small(user="own_users:some_nan", nights=_one_night())
    assert result.nights[0].update.night.candidates == 8 * 3
    assert all(bool(tensor.isfinite().all()) for tensor in result.nights[-1].delivery.head)
    result = run_small(user="own_users:all_nan", nights=_one_night())
    assert statuses(result)["head changed"] == "failed"
    assert result.nights[0].delivery.head.changed(shipped_head(result.bundle)) == 0


@pytest.mark.usefixtures("own_users")
def test_infinite_reward(run_small: Run) -> None:
    with pytest.raises(DataError, match="own_users:infinite must return finite numbers or NaN"):
        run_small(user="own_users:infinite")


@pytest.mark.usefixtures("own_users")
def test_reward_function_that_raises(small: Any, run_small: Run, tmp_path: Path) -> None:
    with pytest.raises(
        ToolkitError, match="own_users:raising must not raise, got KeyError on night 0"
    ) as error:
        run_small(user="own_users:raising", out=tmp_path / "out")
    assert "a text of the user" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_feedback_of_another_vocabulary(run_small: Run, tmp_path: Path) -> None:
    file = tmp_path / "feedback.jsonl"
    candidates = [{"tokens": ["löwe", "tiger"], "reward": 1.0}]
    file.write_text(json.dumps({"id": "1", "text": "hello", "candidates": candidates}) + "\n")
    with pytest.raises(MismatchError, match=r"feedback.jsonl:1: .* must be of the vocabulary in use"):
        run_small(feedback=file)


def _one_night() -> Any:
    from device_sim.users.nights import NightsConfig

    return NightsConfig(nights=1, interactions=8, group=4)


def _fingerprint(file: Path) -> str:
    from personality_common.vocabulary import load_vocabulary

    return load_vocabulary(file).fingerprint
