"""Networks, losses and their training, against torch's own pieces and closed forms."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pretrain.character.config import HEAD_WEIGHTS
from pretrain.character.losses import Gradient, loss
from pretrain.character.model import LIMIT, SkipModel, build_model, trainable
from pretrain.character.schema import FEATURES, HEADS, Schema, load_schema
from pretrain.character.step import SeedStep, SkipStep, shrink

V1, V2 = load_schema("v1"), load_schema("v2")


def test_the_seed_is_the_engines_network() -> None:
    assert trainable(build_model("seed", V1, 0.1)) == 407_210


def test_the_default_has_a_seventh_of_its_parameters() -> None:
    assert trainable(build_model("skip", V1, 0.1)) == 54_972
    assert trainable(build_model("skip", V2, 0.1)) == 58_598 <= 407_210 / 6.9


@pytest.mark.parametrize("name", ["skip", "seed"])
def test_heads_come_in_order_and_size(name: str) -> None:
    heads = build_model(name, V2, 0.1)(torch.randn(3, FEATURES))
    assert [tuple(head.shape) for head in heads] == [(3, 14), (3, 6), (3, 13), (3, 16)]


def test_a_head_is_linear_in_the_input_where_the_trunk_is_silent() -> None:
    model = build_model("skip", V2, 0.0).eval()
    assert isinstance(model, SkipModel)
    with torch.no_grad():
        for layer in (model.first, model.second):
            layer.weight.zero_()
            layer.bias.zero_()
    x = torch.randn(5, FEATURES)
    expected = x @ model.skip.weight.T + model.heads.bias
    torch.testing.assert_close(torch.cat(model(x), dim=1), expected, atol=1e-5, rtol=1e-5)


def test_inputs_are_standardised_and_clamped() -> None:
    model = build_model("skip", V2, 0.0)
    assert isinstance(model, SkipModel)
    features = torch.randn(500, FEATURES) * 3 + 2
    features[:, 7] = 4.0
    model.standardize.fit(features)
    found = model.standardize(features)
    varied = [i for i in range(FEATURES) if i != 7]
    torch.testing.assert_close(found[:, varied].mean(0), torch.zeros(FEATURES - 1), atol=1e-5, rtol=0)
    deviation = found[:, varied].std(0, correction=0)
    torch.testing.assert_close(deviation, torch.ones(FEATURES - 1), atol=1e-4, rtol=0)
    # What never varied has no say, whatever it is later.
    features[:, 7] = 255.0
    assert not model.standardize(features)[:, 7].any()
    assert model.standardize(features * 1000).abs().max() == LIMIT


def test_training_leaves_the_standardisation_alone() -> None:
    model = build_model("skip", V2, 0.0)
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert names == {"standardize.mean", "standardize.scale"}


@pytest.mark.parametrize("name", ["skip", "seed"])
def test_each_matrix_is_pulled_once(name: str) -> None:
    model = build_model(name, V2, 0.0)
    before = {key: value.clone() for key, value in model.named_parameters()}
    shrink(model.matrices(), (0.01, 0.002))
    for key, value in model.named_parameters():
        if value.ndim == 1:
            assert torch.equal(value, before[key])
            continue
        pull = 0.01 if value.shape[1] == FEATURES else 0.002
        expected = torch.sign(before[key]) * (before[key].abs() - pull).clamp(min=0)
        torch.testing.assert_close(value, expected)


def test_the_loss_by_hand() -> None:
    flat = torch.zeros(2, 49)
    target = torch.zeros(2, 49)
    for output in V2.of_kind("class"):
        target[:, V2.places[output.key].start] = 1
    target[:, 8] = 0.5  # valence
    target[0, 33] = 1.0  # one of the two rows' eight deltas
    # Uniform logits: log of the number of classes; binary: log 2; squares: 0.25, and 1 / 16.
    expected = (
        0.35 * (np.log(6) + np.log(5) + 0.25)
        + 0.2 * (np.log(2) + np.log(4))
        + 0.2 * (np.log(5) + np.log(8))
        + 0.25 * (np.log(2) + 1 / 16)
    )
    assert loss(flat, target, V2, HEAD_WEIGHTS).item() == pytest.approx(expected, rel=1e-6)


def test_noise_and_the_constant_target_have_no_part_in_the_loss() -> None:
    flat = torch.randn(4, 49, requires_grad=True)
    target = torch.softmax(torch.randn(4, 49), 1)
    loss(flat, target, V2, HEAD_WEIGHTS).backward()
    assert flat.grad is not None
    silent = (flat.grad == 0).all(dim=0).nonzero().flatten().tolist()
    assert silent == [6, 7, 19]


def test_soft_labels_are_their_expectation() -> None:
    """The loss of an expectation is the mean loss of labels that have it."""
    flat = torch.randn(1, 49)
    rows = [torch.zeros(1, 49) for _ in range(2)]
    for row, index in zip(rows, (1, 3), strict=True):
        for output in V2.of_kind("class"):
            row[:, V2.places[output.key].start + index] = 1
    mixed = loss(flat, 0.25 * rows[0] + 0.75 * rows[1], V2, HEAD_WEIGHTS)
    apart = [loss(flat, row, V2, HEAD_WEIGHTS) for row in rows]
    torch.testing.assert_close(mixed, 0.25 * apart[0] + 0.75 * apart[1])


def test_cross_entropy_is_torchs() -> None:
    flat, index = torch.randn(9, 42), torch.randint(6, (9,))
    target = torch.zeros(9, 42)
    target[torch.arange(9), index] = 1
    only = {head: float(head == "action") for head in HEADS}
    rest = loss(flat, torch.zeros(9, 42), V1, only)
    found = loss(flat, target, V1, only) - rest
    torch.testing.assert_close(found, F.cross_entropy(flat[:, :6], index))


@pytest.mark.parametrize("schema", [V1, V2], ids=["v1", "v2"])
def test_the_gradient_is_that_of_autograd(schema: Schema) -> None:
    torch.manual_seed(0)
    flat = (8 * torch.randn(7, schema.size)).requires_grad_()
    target = torch.rand(7, schema.size)
    for output in schema.of_kind("class"):
        target[:, schema.places[output.key]] = torch.randn(7, output.size).softmax(1)
    loss(flat, target, schema, HEAD_WEIGHTS).backward()
    found = Gradient(schema, HEAD_WEIGHTS).at(flat.detach().T, target.T)
    torch.testing.assert_close(found.T, flat.grad, atol=1e-7, rtol=1e-5)


def soft_targets(count: int) -> torch.Tensor:
    target = torch.rand(count, V2.size)
    for output in V2.of_kind("class"):
        target[:, V2.places[output.key]] = torch.randn(count, output.size).softmax(1)
    return target


def test_a_step_has_the_gradients_of_autograd() -> None:
    torch.manual_seed(0)
    model, x, target = SkipModel(V2, 0.0), torch.randn(37, FEATURES), soft_targets(37)
    flat = model.flat(x)
    loss(flat, target, V2, HEAD_WEIGHTS).backward()
    step = SkipStep(model, Gradient(V2, HEAD_WEIGHTS))
    found = step.gradients(step.keep(x), target.T)
    torch.testing.assert_close(found.T, flat.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(step.outputs(step.keep(x)), found)
    # Against the weights themselves: one step of gradient descent, written back.
    assert step.weights.grad is not None
    with torch.no_grad():
        step.weights.sub_(step.weights.grad)
        wanted = {key: p - p.grad for key, p in model.named_parameters() if p.grad is not None}
    step.finish()
    assert len(wanted) == 7
    for key, value in wanted.items():
        torch.testing.assert_close(model.get_parameter(key).detach(), value, atol=1e-6, rtol=1e-4)


def test_a_steps_dropout_is_that_of_autograd() -> None:
    """The same generator drops the same units where layers are as wide in both: its draws, unit by unit."""
    torch.manual_seed(1)
    model, x, target = SkipModel(V2, 0.5), torch.randn(1, FEATURES), soft_targets(1)
    torch.manual_seed(2)
    flat = model.train().flat(x)
    loss(flat, target, V2, HEAD_WEIGHTS).backward()
    step = SkipStep(model, Gradient(V2, HEAD_WEIGHTS))
    torch.manual_seed(2)
    found = step.gradients(step.keep(x), target.T)
    torch.testing.assert_close(found.T, flat.detach(), atol=1e-5, rtol=1e-5)
    read, second, bias, heads = (part.clone() for part in step.gradients_of_parts)
    for own, theirs in ((second, model.second), (heads, model.heads), (read[:64, :FEATURES], model.first)):
        torch.testing.assert_close(own, theirs.weight.grad, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(bias[:, 0], model.second.bias.grad, atol=1e-6, rtol=1e-4)
    assert (read[:, FEATURES + 1 :] == 0).all()


def test_a_step_of_the_seed_is_autograds() -> None:
    torch.manual_seed(0)
    model, x, target = build_model("seed", V2, 0.0), torch.rand(5, FEATURES), soft_targets(5)
    loss(model.flat(x), target, V2, HEAD_WEIGHTS).backward()
    wanted = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    step = SeedStep(model, Gradient(V2, HEAD_WEIGHTS))  # type: ignore[arg-type]
    step.gradients(step.keep(x), target.T)
    for parameter, value in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, value, atol=1e-7, rtol=1e-4)
