"""Recurrent layers, step by step. Source: coremltools, mil/ops/defs/iOS15/recurrent.py, iOS18/recurrent.py.

Where the text leaves a choice, coremltools' tests of the ops on devices decide
(mil/ops/tests/iOS14/test_recurrent.py): the reset gate of `gru` acts before the product, `reverse`
gives its sequence in the order in which it was computed, and the activations have their defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import numpy as np

from device_sim.mil.kernels.activation import sigmoid
from device_sim.mil.limits import ITERATION_WORK
from device_sim.mil.numerics import Accumulator
from device_sim.mil.registry import op
from device_sim.mil.types import Array, prod

Activation: TypeAlias = Callable[[Array], Array]

ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "hard_sigmoid": lambda x: np.clip(x * x.dtype.type(0.2) + x.dtype.type(0.5), 0, 1),
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "scaled_tanh": np.tanh,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}
ACTIVATIONS_TOO: Final = {"sigmoid_hard": "hard_sigmoid"}
"""Other names for some."""


def activation_of(name: str) -> Activation:
    """The function of this name, in any case of letters.

    Raises:
        ValueError: unknown.
    """
    key = ACTIVATIONS_TOO.get(name.lower(), name.lower())
    if key not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[key]


def lstm_pass(
    x: Array,
    h: Array,
    c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    peephole: Array | None,
    activations: tuple[Activation, Activation, Activation],
    clip: float | None,
    coupled: bool = False,
    *,
    acc: Accumulator,
) -> tuple[Array, Array, Array]:
    """One direction of an LSTM, in the order of x.

    Args:
        x: (steps, N, inputs).
        h, c: (N, H), the state before.
        weight_ih: (4H, inputs); weight_hh (4H, H), bias (4H,): input, forget, output, cell gate.
        peephole: (3H,): input, forget, output gate.
        activations: of the gates, the cell gate, the output.
        clip: bound on the cell state's size.
        coupled: the forget gate is 1 minus the input gate.

    Returns:
        h of every step (steps, N, H), and h and c of the last.
    """
    size = _check(x, (h, c), weight_ih, weight_hh, {"bias": bias}, 4)
    if peephole is not None and peephole.shape != (3 * size,):
        raise ValueError(f"peephole must have {3 * size} values, got {list(peephole.shape)}")
    gate, cell, output = activations
    p = None if peephole is None else peephole.reshape(3, size)
    entering = acc.matmul(x, weight_ih.T)
    if bias is not None:
        entering += bias
    result = np.empty((*x.shape[:2], size), entering.dtype)
    recurrent = weight_hh.T
    for step, given in enumerate(entering):
        gates = given + acc.matmul(h, recurrent)
        i, f, o, z = (gates[:, k * size : (k + 1) * size] for k in range(4))
        i = gate(i if p is None else i + c * p[0])
        f = 1 - i if coupled else gate(f if p is None else f + c * p[1])
        c = f * c + i * cell(z)
        if clip is not None:
            c = np.clip(c, -clip, clip)
        h = gate(o if p is None else o + c * p[2]) * output(c)
        result[step] = h
    return result, h, c


def gru_pass(
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    activations: tuple[Activation, Activation],
    input_bias: Array | None = None,
    reset_after: bool = False,
    *,
    acc: Accumulator,
) -> tuple[Array, Array]:
    """A GRU, in the order of x.

    Args:
        x: (steps, N, inputs).
        h: (N, H).
        weight_ih: (3H, inputs); weight_hh (3H, H), bias (3H,): reset, output, update gate.
        activations: of the gates, the output.
        input_bias: (3H,), added to the products with x; `bias` is added to those with h.
        reset_after: the reset gate multiplies the product with h and its bias, not h.

    Returns:
        h of every step (steps, N, H), and of the last.
    """
    size = _check(x, (h,), weight_ih, weight_hh, {"bias": bias, "input_bias": input_bias}, 3)
    gate, output = activations
    entering = acc.matmul(x, weight_ih.T)
    if input_bias is not None:
        entering += input_bias
    if bias is not None and not reset_after:
        entering += bias
    result = np.empty((*x.shape[:2], size), entering.dtype)
    both = np.concatenate([weight_hh[:size], weight_hh[2 * size :]]).T
    inner = weight_hh[size : 2 * size].T
    later = bias if reset_after else None
    for step, given in enumerate(entering):
        gates = acc.matmul(h, both)
        new = None if not reset_after else acc.matmul(h, inner)
        r, z = gates[:, :size] + given[:, :size], gates[:, size:] + given[:, 2 * size :]
        if later is not None:
            r, z = r + later[:size], z + later[2 * size :]
            new = new + later[size : 2 * size]
        r, z = gate(r), gate(z)
        new = acc.matmul(r * h, inner) if new is None else r * new
        h = (1 - z) * output(given[:, size : 2 * size] + new) + z * h
        result[step] = h
    return result, h


def rnn_pass(
    x: Array,
    h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    activation: Activation,
    *,
    acc: Accumulator,
) -> tuple[Array, Array]:
    """A plain recurrent layer, in the order of x: shapes as in `gru_pass`, with one gate."""
    size = _check(x, (h,), weight_ih, weight_hh, {"bias": bias}, 1)
    entering = acc.matmul(x, weight_ih.T)
    if bias is not None:
        entering += bias
    result = np.empty((*x.shape[:2], size), entering.dtype)
    recurrent = weight_hh.T
    for step, given in enumerate(entering):
        h = activation(given + acc.matmul(h, recurrent))
        result[step] = h
    return result, h


def recurrent_work(steps: int, batch: int, weight_ih: Array, weight_hh: Array) -> int:
    """Multiply-adds of one direction, and its loop."""
    products = batch * (extent_of(weight_ih) + extent_of(weight_hh) + 16 * 8 * weight_hh.shape[0])
    return prod((steps, products + ITERATION_WORK))


def extent_of(weight: Array) -> int:
    """Elements."""
    return prod(weight.shape)


def _check(
    x: Array,
    states: tuple[Array, ...],
    weight_ih: Array,
    weight_hh: Array,
    biases: Mapping[str, Array | None],
    gates: int,
) -> int:
    """The hidden size."""
    if x.ndim != 3 or not x.shape[0] or weight_ih.ndim != 2 or weight_hh.ndim != 2:
        raise ValueError(
            f"x{list(x.shape)} must be one step or more of rank 3, "
            f"and weights of rank 2, got {list(weight_ih.shape)} and {list(weight_hh.shape)}"
        )
    size = weight_hh.shape[1]
    if weight_hh.shape[0] != gates * size or weight_ih.shape != (gates * size, x.shape[2]):
        raise ValueError(
            f"weight_ih{list(weight_ih.shape)} and weight_hh{list(weight_hh.shape)} "
            f"do not fit {gates} gates and x{list(x.shape)}"
        )
    for state in states:
        if state.shape != (x.shape[1], size):
            raise ValueError(f"an initial state must be {[x.shape[1], size]}, got {list(state.shape)}")
    for name, bias in biases.items():
        if bias is not None and bias.shape != (gates * size,):
            raise ValueError(f"{name} must have {gates * size} values, got {list(bias.shape)}")
    return int(size)


def _reversed(direction: str) -> bool:
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction must be forward or reverse, got {direction!r}")
    return direction == "reverse"


def _size(x: Array, weight_ih: Array, weight_hh: Array, **_: object) -> int:
    return _ranks(x, weight_ih, weight_hh) * prod((*x.shape[:2], weight_ih.shape[0]))


def _work(x: Array, weight_ih: Array, weight_hh: Array, **_: object) -> int:
    directions = _ranks(x, weight_ih, weight_hh)
    return directions * recurrent_work(x.shape[0], x.shape[1], weight_ih, weight_hh)


def _ranks(x: Array, weight_ih: Array, weight_hh: Array) -> int:
    """Room for two directions; the kernels check all else."""
    if x.ndim != 3 or weight_ih.ndim != 2 or weight_hh.ndim != 2:
        raise ValueError(
            f"x must have rank 3 and the weights rank 2, got {list(x.shape)}, {list(weight_ih.shape)} "
            f"and {list(weight_hh.shape)}"
        )
    return 2


@op("lstm", size=_size, work=_work)
def lstm(
    x: Array,
    initial_h: Array,
    initial_c: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    peephole: Array | None = None,
    weight_ih_back: Array | None = None,
    weight_hh_back: Array | None = None,
    bias_back: Array | None = None,
    peephole_back: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
    *,
    acc: Accumulator,
) -> tuple[Array, ...]:
    """Both directions side by side for `bidirectional`; each step's backward part beside its forward part."""
    functions = (
        activation_of(recurrent_activation),
        activation_of(cell_activation),
        activation_of(activation),
    )
    if direction != "bidirectional":
        x = x[::-1] if _reversed(direction) else x
        sequence, h, c = lstm_pass(
            x, initial_h, initial_c, weight_ih, weight_hh, bias, peephole, functions, clip, acc=acc
        )
        return sequence if output_sequence else sequence[-1:], h, c
    if weight_ih_back is None or weight_hh_back is None:
        raise ValueError("a bidirectional lstm needs weight_ih_back and weight_hh_back")
    size = weight_hh.shape[1]
    for state in (initial_h, initial_c):
        if state.ndim != 2 or state.shape[1] != 2 * size:
            raise ValueError(f"an initial state must have {2 * size} columns, got {list(state.shape)}")
    forth, h, c = lstm_pass(
        x,
        initial_h[:, :size],
        initial_c[:, :size],
        weight_ih,
        weight_hh,
        bias,
        peephole,
        functions,
        clip,
        acc=acc,
    )
    back, h_back, c_back = lstm_pass(
        x[::-1],
        initial_h[:, size:],
        initial_c[:, size:],
        weight_ih_back,
        weight_hh_back,
        bias_back,
        peephole_back,
        functions,
        clip,
        acc=acc,
    )
    h, c = np.concatenate([h, h_back], 1), np.concatenate([c, c_back], 1)
    return np.concatenate([forth, back[::-1]], 2) if output_sequence else h[None], h, c


@op("gru", size=_size, work=_work)
def gru(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    *,
    acc: Accumulator,
) -> tuple[Array, ...]:
    x = x[::-1] if _reversed(direction) else x
    functions = activation_of(recurrent_activation), activation_of(activation)
    sequence, h = gru_pass(x, initial_h, weight_ih, weight_hh, bias, functions, acc=acc)
    return sequence if output_sequence else sequence[-1:], h


@op("gru", "iOS18", size=_size, work=_work)
def gru_18(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Array | None = None,
    *,
    acc: Accumulator,
) -> tuple[Array, ...]:
    x = x[::-1] if _reversed(direction) else x
    functions = activation_of(recurrent_activation), activation_of(activation)
    sequence, h = gru_pass(
        x, initial_h, weight_ih, weight_hh, bias, functions, input_bias, reset_after, acc=acc
    )
    return sequence if output_sequence else sequence[-1:], h


@op("rnn", size=_size, work=_work)
def rnn(
    x: Array,
    initial_h: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
    *,
    acc: Accumulator,
) -> tuple[Array, ...]:
    x = x[::-1] if _reversed(direction) else x
    sequence, h = rnn_pass(x, initial_h, weight_ih, weight_hh, bias, activation_of(activation), acc=acc)
    return sequence if output_sequence else sequence[-1:], h
