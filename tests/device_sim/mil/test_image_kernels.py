"""What torch has no twin for: peepholes, clips, sizes that a deconvolution is given, boxes beyond the image;
and sizes and work of hostile arguments, which are known before anything is allocated."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import device_sim.mil.kernels  # noqa: F401  (registers them)
from device_sim.mil.limits import Budget, Limits, Usage
from device_sim.mil.numerics import Accumulator, policy
from device_sim.mil.registry import Op, find
from device_sim.mil.step import Output, Step, execute
from device_sim.mil.types import TensorType
from personality_common.errors import DataError

ACC = Accumulator()


def op_of(name: str, opset: str = "iOS15") -> Op:
    found = find(name, opset)
    assert found is not None
    return found


def one(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_an_lstm_with_peepholes_and_a_clip_by_hand() -> None:
    """One unit, relu at all gates: i = x + c/2, f = 2x - c, z = x, c' = f c + i z, o = x + 3 c', h = o c'."""
    weights = {"weight_ih": one(1, 2, 1, 1).reshape(4, 1), "weight_hh": np.zeros((4, 1), np.float32)}
    relu = dict.fromkeys(("recurrent_activation", "cell_activation", "activation"), "relu")
    arguments: dict[str, Any] = {
        "x": one(1, 0.5).reshape(2, 1, 1),
        "initial_h": np.zeros((1, 1), np.float32),
        "initial_c": one(1).reshape(1, 1),
        **weights,
        **relu,
        "peephole": one(0.5, -1, 3),
        "output_sequence": True,
        "acc": ACC,
    }
    # x = 1, c = 1: i = 1.5, f = 1, c' = 1 + 1.5 = 2.5, o = 8.5, h = 21.25
    # x = 0.5, c = 2.5: i = 1.75, f = 0, c' = 0.875, o = 3.125, h = 2.734375
    sequence, h, c = op_of("lstm").kernel(**arguments)
    assert sequence.reshape(-1).tolist() == [21.25, 2.734375]
    assert (h.item(), c.item()) == (2.734375, 0.875)
    # Clipped to 2: o = 7, h = 14; then i = 1.5, f = 0, c' = 0.75, o = 2.75, h = 2.0625
    sequence, h, c = op_of("lstm").kernel(**arguments, clip=2.0)
    assert sequence.reshape(-1).tolist() == [14, 2.0625]
    assert c.item() == 0.75


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("hard_sigmoid", 0.7), ("sigmoid_hard", 0.7), ("linear", 1), ("scaled_tanh", np.tanh(1)), ("relu", 1)],
)
def test_activations_of_an_rnn(name: str, wanted: float) -> None:
    zero, unit = np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    _, h = op_of("rnn").kernel(unit[None], zero, unit, zero, activation=name, acc=ACC)
    np.testing.assert_allclose(h, [[wanted]], rtol=1e-6)


@pytest.mark.parametrize(
    ("pad_type", "size", "stride"), [("same", 7, 2), ("same", 8, 2), ("same", 5, 1), ("valid", 8, 3)]
)
def test_a_deconvolution_to_a_given_shape_is_the_gradient_of_the_convolution(
    pad_type: str, size: int, stride: int
) -> None:
    rng = np.random.default_rng(0)
    image = torch.zeros(1, 2, size, size, requires_grad=True)
    kernel, weight = 3, torch.from_numpy(rng.normal(size=(4, 2, 3, 3)).astype(np.float32))
    padded = image
    if pad_type == "same":
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        padded = F.pad(image, [total // 2, total - total // 2] * 2)
    out = F.conv2d(padded, weight, stride=stride)
    y = torch.from_numpy(rng.normal(size=tuple(out.shape)).astype(np.float32))
    (wanted,) = torch.autograd.grad(out, image, y)
    found = op_of("conv_transpose").kernel(
        y.numpy(),
        weight.numpy(),
        output_shape=(1, 2, size, size),
        pad_type=pad_type,
        strides=(stride, stride),
        acc=ACC,
    )
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def test_boxes_beyond_the_image_and_boxes_by_their_centre() -> None:
    x = np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)
    given = {"target_height": 1, "target_width": 3, "sampling_mode": "STRICT_ALIGN_CORNERS", "pad_value": 9.0}
    corners = np.array([[1, 1, 1, 3]], np.float32)
    crop = op_of("crop_resize", "iOS17").kernel
    assert crop(x, corners, **given).tolist() == [[[[4, 5, 9]]]]
    centre = np.array([[2, 1, 2, 0]], np.float32)  # x, y, width, height
    mode = "CENTER_SIZE_WIDTH_FIRST"
    assert crop(x, centre, box_coordinate_mode=mode, **given).tolist() == [[[[4, 5, 9]]]]
    half = {"normalized_coordinates": True, "spatial_scale": 0.5}
    assert crop(x, np.array([[2, 0, 2, 2]], np.float32), **given, **half).tolist() == [[[[3, 4, 5]]]]


IMAGE = np.zeros((1, 1, 8, 8), np.float32)
STEPS = np.broadcast_to(np.float32(0), (10**7, 1, 1))
UNIT = np.zeros((1, 1), np.float32)
HOSTILE: dict[str, dict[str, Any]] = {
    "conv": {
        "x": IMAGE,
        "weight": np.zeros((1, 1, 2, 2), np.float32),
        "pad_type": "custom",
        "pad": (10**6,) * 4,
    },
    "conv_transpose": {"x": IMAGE, "weight": np.zeros((1, 1, 2, 2), np.float32), "strides": (10**5, 10**5)},
    "max_pool": {"x": IMAGE, "kernel_sizes": (2, 2), "pad_type": "custom", "pad": (10**6,) * 4},
    "lstm": {
        "x": STEPS,
        "initial_h": UNIT,
        "initial_c": UNIT,
        "weight_ih": np.zeros((4, 1), np.float32),
        "weight_hh": np.zeros((4, 1), np.float32),
    },
    "rnn": {"x": STEPS, "initial_h": UNIT, "weight_ih": UNIT, "weight_hh": UNIT},
    "resize_bilinear": {"x": IMAGE, "target_size_height": 10**6, "target_size_width": 10**6},
    "upsample_nearest_neighbor": {"x": IMAGE, "scale_factor_height": 10**6, "scale_factor_width": 10**6},
    "make_list": {"init_length": 10**9, "elem_shape": ("9", "9")},
    "list_write": {"ls": UNIT, "index": 2**31 - 1, "value": UNIT[0]},
    "random_normal": {"shape": (10**5, 10**5), "seed": 1},
    "space_to_batch": {"x": IMAGE, "block_shape": (1, 1), "paddings": np.full((2, 2), 10**6)},
    "local_response_norm": {"x": IMAGE, "size": 10**12},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sizes_are_refused_before_they_are_allocated(name: str) -> None:
    out = Output("out", 0, TensorType(np.dtype(np.float32), None))
    step = Step(0, op_of(name), f"op {name}", HOSTILE[name], (), (), (), (out,))
    usage = Usage(Budget(Limits(seconds=20)))
    with pytest.raises(
        DataError, match=r"the limit is .* \((Limits.value_bytes|--max-seconds, Limits.seconds)\)"
    ):
        execute(step, {}, {}, policy("exact"), usage)


def test_a_convolution_with_large_columns_runs_in_chunks() -> None:
    """Its columns would have 37 million elements; a chunk has one million."""
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(1, 16, 512, 512)), rng.normal(size=(2, 16, 3, 3))
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    found = op_of("conv").kernel(x, weight, acc=ACC)
    np.testing.assert_allclose(found, F.conv2d(torch.from_numpy(x), torch.from_numpy(weight)), atol=1e-4)
    assert op_of("conv").size(x=x, weight=weight) == x.size  # type: ignore[misc]
