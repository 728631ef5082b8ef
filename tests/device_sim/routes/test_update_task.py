"""The simulated update task against torch's optimizers, and what the package allows."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_sim.heads.shipped import shipped_head
from device_sim.routes.update_task import TaskSettings, UpdateTask, calibrate, one_hot_targets
from grpo.batch import make_batch
from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.losses import loss_and_gradient
from grpo.scoring import score
from grpo.tune import tune_head
from personality_common.coreml.package import Package
from personality_common.coreml.writing import serialize
from personality_common.errors import DataError

F32 = torch.finfo(torch.float32).eps


@pytest.fixture
def package(bundle: Any, tmp_path: Path) -> Any:
    """A copy of the head whose update parameters a test may change: `package(change)`."""

    def make(change: Any = None) -> Any:
        copy = tmp_path / "copy.mlpackage"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle.package("head"), copy)
        if change is not None:
            opened = Package.open(copy)
            change(opened.spec)
            opened.model_file.write_bytes(serialize(opened.spec))
        return copy

    return make


def to_adam(spec: Any) -> None:
    adam = spec.neuralNetwork.updateParams.optimizer.adamOptimizer
    for name, values in (
        ("learningRate", (0.01, 0.0, 1.0)),
        ("miniBatchSize", (16, 1, 64)),
        ("beta1", (0.8, 0.0, 1.0)),
        ("beta2", (0.95, 0.0, 1.0)),
        ("eps", (1e-8, 0.0, 1.0)),
    ):
        parameter = getattr(adam, name)
        parameter.defaultValue, parameter.range.minValue, parameter.range.maxValue = values


def relative(ours: Any, theirs: Any) -> Any:
    theirs = theirs.detach().double().numpy()
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def torch_task(head: Any, latents: Any, targets: Any, optimizer: Any, batches: Any) -> Any:
    weight, bias = (tensor.clone().requires_grad_() for tensor in head)
    made = optimizer([weight, bias])
    losses = []
    for rows in batches:
        made.zero_grad()
        loss = torch.nn.functional.mse_loss(latents[rows] @ weight.T + bias, targets[rows])
        loss.backward()
        made.step()
        losses.append(loss.item())
    return weight, bias, losses


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_task_is_torchs_training_on_mse(package: Any, bundle: Any, latents: Any, optimizer: Any) -> None:
    """Three epochs in mini-batches of 5, 5 and 2 in the order of the rows."""
    targets = torch.randn(12, 325, generator=torch.Generator().manual_seed(2))
    made = {
        "sgd": lambda p: torch.optim.SGD(p, 0.5),
        "momentum": lambda p: torch.optim.SGD(p, 0.5, momentum=0.75),
        "adam": lambda p: torch.optim.Adam(p, 0.01, betas=(0.8, 0.95), eps=1e-8),
    }[optimizer]
    batches = [slice(0, 5), slice(5, 10), slice(10, 12)] * 3
    weight, bias, losses = torch_task(shipped_head(bundle), latents[:12], targets, made, batches)
    task = UpdateTask(package(to_adam if optimizer == "adam" else None))
    rate = {} if optimizer == "adam" else {"learning_rate": 0.5, "momentum": 0.75 * (optimizer != "sgd")}
    settings = TaskSettings(mini_batch_size=5, epochs=3, shuffle=False, **rate)
    found = task.train(latents[:12].numpy(), targets.numpy(), settings)
    # Nine steps in float32, each rounded; Adam's division magnifies dust in the gradient.
    assert relative(task.weight, weight) < (1e-5 if optimizer == "adam" else 1e-6)
    assert relative(task.bias, bias) < (1e-5 if optimizer == "adam" else 1e-6)
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    assert (task.weight.dtype, task.bias.dtype) == (np.float32, np.float32)
    assert losses[-1] < losses[0]


def test_shuffle_is_seeded_and_reaches_every_row(package: Any, latents: Any) -> None:
    """One row a mini-batch: its loss tells which row it was."""
    targets = np.zeros((9, 325), np.float32)
    targets += 10 * np.arange(9, dtype=np.float32)[:, None]

    def order(**settings: Any) -> Any:
        task = UpdateTask(package())
        size = TaskSettings(learning_rate=1e-8, mini_batch_size=1, **settings)
        losses = task.train(latents[:9].numpy(), targets, size)
        return [round(float(np.sqrt(loss) / 10)) for loss in losses]

    assert order(shuffle=False) == list(range(9))
    first = order(seed=1, epochs=2)
    assert first == order(seed=1, epochs=2, shuffle=True)
    assert first != order(seed=2, epochs=2)
    assert sorted(first[:9]) == sorted(first[9:]) == list(range(9))
    assert first[:9] != first[9:]


def grpo_gradient(logits: Any, groups: Any, latents: Any, config: Any) -> Any:
    advantages, numbers = score(latents, groups, config)
    batch = make_batch(
        config.make_policy(),
        logits,
        logits,
        groups.actions,
        None,
        advantages,
        numbers,
        config.k,
        config.loss_options,
    )
    return loss_and_gradient(config.make_policy().at(logits), batch, config.loss_options).gradient.float()


@pytest.fixture
def groups(latents: Any, bundle: Any) -> Any:
    config = GRPOConfig()
    draw = torch.Generator().manual_seed(4)
    logits = shipped_head(bundle).logits(latents[:12])
    actions = config.make_policy().sample(logits, 8, draw)
    return Groups(actions, {"reward": torch.rand(12, 8, generator=draw)}, None)


@pytest.mark.parametrize("part", ["head", "updatable"])
def test_shifted_targets_carry_a_step_of_grpo(bundle: Any, latents: Any, groups: Any, part: Any) -> None:
    """Against `tune_head` with one step of SGD: the same gradient through PyTorch's optimizer."""
    config = GRPOConfig(
        optimizer="sgd", learning_rate=5.0, inner_iterations=1, kl_budget=None, overlap_budget=None
    )
    head = shipped_head(bundle)
    tuned = tune_head(latents[:12], groups, head, head, config).head
    gradient = grpo_gradient(head.logits(latents[:12]), groups, latents[:12], config)
    task = UpdateTask(bundle.package(part))
    task.step(latents[:12].numpy(), gradient.numpy(), 5.0)
    assert relative(task.weight, tuned.weight) < 1e-6
    assert relative(task.bias, tuned.bias) < 1e-6
    moved = tuned.weight.double() - head.weight.double()
    error = np.linalg.norm(task.weight - tuned.weight.double().numpy()) / float(moved.norm())
    # The update itself is as exact as float32 can hold a weight: its rounding is the error that is left.
    assert error < 4 * F32 * float(head.weight.norm() / moved.norm())


def test_learning_rates_beyond_the_package_fit_into_the_targets(bundle: Any, latents: Any) -> None:
    gradient = 1e-3 * torch.randn(12, 325, generator=torch.Generator().manual_seed(6))
    head = shipped_head(bundle)
    task = UpdateTask(bundle.package("head"))
    with pytest.raises(DataError, match="learning_rate: the package allows 1e-08 to 10, got 30"):
        task.step(latents[:12].numpy(), gradient.numpy(), 30.0)
    assert task.move(latents[:12].numpy(), 30 * gradient.numpy()) == 1
    expected = head.weight.double() - 30 * gradient.double().T @ latents[:12].double()
    assert relative(task.weight, expected) < 2 * F32


def test_calibrated_factor_of_a_device_that_normalises_in_another_way(bundle: Any, latents: Any) -> None:
    """A device whose loss is the sum over outputs, mean over rows: 325 times ours."""
    gradient = 1e-2 * torch.randn(12, 325, generator=torch.Generator().manual_seed(7))
    x, g, head = latents[:12].numpy(), gradient.numpy(), shipped_head(bundle)
    expected = head.weight.double() - gradient.double().T @ latents[:12].double()
    device = UpdateTask(bundle.package("head"), device_factor=325.0)
    before = device.weight.copy()
    c = calibrate(device, rows=12)
    assert c == pytest.approx(12 / 2, rel=1e-6)
    assert calibrate(UpdateTask(bundle.package("head")), rows=12) == pytest.approx(12 * 325 / 2, rel=1e-6)
    assert device.weight.tobytes() == before.tobytes()
    device.step(x, g, 1.0, c)
    assert relative(device.weight, expected) < 1e-6
    wrong = UpdateTask(bundle.package("head"), device_factor=325.0)
    wrong.step(x, g, 1.0)
    assert relative(wrong.weight, expected) > 1
    moved = UpdateTask(bundle.package("head"), device_factor=325.0)
    moved.move(x, g, c_per_row=c / 12)
    assert relative(moved.weight, expected) < 1e-6


def test_adam_sees_the_gradient_and_starts_afresh_each_task(package: Any, bundle: Any, latents: Any) -> None:
    """One task of one step is Adam's first step, a matter of signs; the next task is a first step again."""
    gradient = 1e-3 * torch.randn(12, 325, generator=torch.Generator().manual_seed(8))
    weight, bias = (tensor.clone() for tensor in shipped_head(bundle))
    task = UpdateTask(package(to_adam))
    for _ in range(2):
        optimizer = torch.optim.Adam([weight, bias], 0.02, (0.8, 0.95), 1e-8)
        weight.grad, bias.grad = gradient.T @ latents[:12], gradient.sum(0)
        optimizer.step()
        task.step(latents[:12].numpy(), gradient.numpy(), 0.02)
    # Where the gradient is dust, its sign is; the rest agrees to rounding.
    assert relative(task.weight, weight) < 1e-4
    assert np.median(np.abs(task.weight - weight.numpy())) < 1e-7
    with pytest.raises(DataError, match="only an SGD step moves the head by a given amount"):
        task.move(latents[:12].numpy(), gradient.numpy())
    with pytest.raises(DataError, match="c is read off an SGD step"):
        calibrate(task)


def test_one_hot_targets_pull_every_logit_to_zero_or_one(bundle: Any, latents: Any) -> None:
    """What apps do today: the optimum of the objective has logits 0 for nearly all tokens."""
    targets = one_hot_targets([[3, 7]] * 12, 325)
    assert (targets.sum(), targets.dtype, targets.shape) == (24.0, np.float32, (12, 325))
    assert targets[:, [3, 7]].all()
    task = UpdateTask(bundle.package("head"))
    losses = task.train(latents[:12].numpy(), targets, TaskSettings(learning_rate=0.5, epochs=100))
    assert losses[-1] < 0.1 * losses[0]
    top = task.logits(latents[:12].numpy()).argsort(axis=1)[:, -2:]
    assert all(set(row) == {3, 7} for row in top.tolist())
    with pytest.raises(DataError, match=r"must stay finite.*lower learning_rate \(10\)"):
        task.train(latents[:12].numpy(), targets, TaskSettings(learning_rate=10.0, epochs=100))
    assert np.isfinite(task.weight).all()
    for token in (-1, 325):
        with pytest.raises(DataError, match="row 1: a token must be 0 to 324"):
            one_hot_targets([[0], [token]], 325)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"learning_rate": 11.0}, "learning_rate: the package allows 1e-08 to 10, got 11"),
        ({"learning_rate": float("nan")}, "learning_rate: the package allows"),
        ({"mini_batch_size": 65}, "mini_batch_size: the package allows 1 to 64, got 65"),
        ({"mini_batch_size": 0}, "mini_batch_size: the package allows"),
        ({"epochs": 101}, "epochs: the package allows 1 to 100, got 101"),
        ({"momentum": -0.1}, "momentum: the package allows 0 to 1"),
        ({"seed": -1}, "seed: the package allows"),
        ({"beta1": 0.9}, "beta1: the package trains with sgd, which has no such parameter"),
    ],
)
def test_settings_are_held_to_the_packages_ranges(
    bundle: Any, latents: Any, settings: Any, words: Any
) -> None:
    task = UpdateTask(bundle.package("head"))
    before = task.weight
    with pytest.raises(DataError, match=words):
        task.train(latents[:2].numpy(), np.zeros((2, 325), np.float32), TaskSettings(**settings))
    assert task.weight is before


def test_without_a_range_only_the_default_is_allowed(package: Any, latents: Any) -> None:
    def narrow(spec: Any) -> None:
        update = spec.neuralNetwork.updateParams
        update.optimizer.sgdOptimizer.learningRate.ClearField("range")
        update.optimizer.sgdOptimizer.miniBatchSize.set.values.extend([4, 16])
        update.epochs.defaultValue = 3

    task = UpdateTask(package(narrow))
    x, t = latents[:20].numpy(), np.zeros((20, 325), np.float32)
    # Defaults of the package: mini-batches of 16 and 3 epochs.
    assert len(task.train(x, t)) == 6
    assert len(task.train(x, t, TaskSettings(mini_batch_size=4))) == 15
    with pytest.raises(DataError, match=r"learning_rate: the package allows 0\.01, got 0\.02"):
        task.train(x, t, TaskSettings(learning_rate=0.02))
    with pytest.raises(DataError, match="mini_batch_size: the package allows 4, 16, got 8"):
        task.train(x, t, TaskSettings(mini_batch_size=8))


def second_layer(spec: Any) -> None:
    spec.neuralNetwork.layers.add().CopyFrom(spec.neuralNetwork.layers[0])


def cross_entropy(spec: Any) -> None:
    spec.neuralNetwork.updateParams.lossLayers[0].categoricalCrossEntropyLossLayer.input = "logits"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cross_entropy, "must have one loss, meanSquaredErrorLossLayer"),
        (lambda s: s.neuralNetwork.updateParams.ClearField("lossLayers"), r"must have one loss.*has \[\]"),
        (
            lambda s: setattr(
                s.neuralNetwork.updateParams.lossLayers[0].meanSquaredErrorLossLayer, "input", "x"
            ),
            "must compare 'logits' with 'target'",
        ),
        (lambda s: s.neuralNetwork.updateParams.ClearField("optimizer"), "SGD or Adam optimizer, has None"),
        (lambda s: setattr(s, "isUpdatable", False), "must be an updatable neural network"),
        (lambda s: setattr(s.neuralNetwork.layers[0], "isUpdatable", False), "one updatable innerProduct"),
        (second_layer, "one updatable innerProduct"),
        (
            lambda s: setattr(s.neuralNetwork.layers[0].innerProduct.bias, "isUpdatable", False),
            "bias of its head must be updatable float32",
        ),
        (lambda s: s.neuralNetwork.layers[0].innerProduct.bias.floatValue.pop(), "weight and bias must be"),
        (
            lambda s: s.neuralNetwork.layers[0].innerProduct.weights.floatValue.pop(),
            r"weights of its head must be updatable float32, got float32 \(166399,\)",
        ),
        (
            lambda s: setattr(s.neuralNetwork.updateParams.epochs, "defaultValue", 1000),
            "epochs, the default: the package allows 1 to 100, got 1000",
        ),
    ],
)
def test_package_that_no_update_task_can_train(package: Any, change: Any, words: Any) -> None:
    with pytest.raises(DataError, match=words):
        UpdateTask(package(change))


def test_package_of_another_kind(bundle: Any) -> None:
    with pytest.raises(DataError, match=r"must be an updatable neural network or .* it is mlProgram"):
        UpdateTask(bundle.package("model"))


@pytest.mark.parametrize(
    ("latents_of", "targets_of", "words"),
    [
        ((0, 512), (0, 325), "N >= 1"),
        ((2, 511), (2, 325), r"\(N, 512\)"),
        ((2, 512), (3, 325), r"\(N, 325\)"),
    ],
)
def test_arrays_that_do_not_fit(bundle: Any, latents_of: Any, targets_of: Any, words: Any) -> None:
    task = UpdateTask(bundle.package("head"))
    with pytest.raises(DataError, match=words):
        task.train(np.zeros(latents_of, np.float32), np.zeros(targets_of, np.float32))


@pytest.mark.parametrize("bad", [np.float64(0), np.float32("nan"), np.float32("inf")])
def test_numbers_that_do_not_fit(bundle: Any, bad: Any) -> None:
    task = UpdateTask(bundle.package("head"))
    with pytest.raises(DataError, match="targets must be finite float32"):
        task.train(np.zeros((1, 512), np.float32), np.full((1, 325), bad))
