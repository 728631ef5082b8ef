"""Recurrent layers: x (steps, N, inputs, 1, 1), the first two axes may be more of rank 5 only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from device_sim.mil.kernels.recurrent import (
    Activation,
    gru_pass,
    lstm_pass,
    recurrent_work,
    rnn_pass,
)
from device_sim.mil.layers.activation import plain_activation
from device_sim.mil.layers.defaults import value
from device_sim.mil.layers.layer import Build, Layer
from device_sim.mil.layers.weights import Weights
from device_sim.mil.types import Array, prod
from personality_common.errors import DataError

_BOUND: Final = 50.0
"""`clip()` of the format: what an activation sees lies in [-50, 50]."""
_SUPPORTED: Final = ("linear", "sigmoid", "tanh", "ReLU", "scaledTanh", "sigmoidHard")


def _activations(given: Sequence[Any], count: int) -> list[Activation]:
    if len(given) != count:
        raise DataError(f"{count} activations are expected, got {len(given)}")
    found = []
    for p in given:
        function = plain_activation(p) if p.WhichOneof("NonlinearityType") in _SUPPORTED else None
        if function is None:
            raise DataError(f"an activation of a recurrent layer must be one of {', '.join(_SUPPORTED)}")
        found.append(function)
    return found


def _clipped(function: Activation) -> Activation:
    return lambda x: function(np.clip(x, -_BOUND, _BOUND))


def _vectors(x: Array, inputs: int) -> Array:
    """(steps, N, inputs)."""
    if x.ndim != 5 or x.shape[2:] != (inputs, 1, 1):
        raise DataError(f"[steps, batch, {inputs}, 1, 1] is expected, got {list(x.shape)}")
    return x[..., 0, 0]


def _state(given: Array | None, x: Array, hidden: int) -> Array:
    """(N, hidden); zeros unless it is an input, (1, N, hidden, 1, 1)."""
    if given is None:
        return np.zeros((x.shape[1], hidden), x.dtype)
    if given.size != x.shape[1] * hidden:
        raise DataError(f"a state must be [1, {x.shape[1]}, {hidden}, 1, 1], got {list(given.shape)}")
    return given.reshape(x.shape[1], hidden)


def _rank5(x: Array) -> Array:
    return x[..., None, None]


def _joined(weights: Weights, p: Any, names: Sequence[str], shape: tuple[int, ...]) -> Array:
    """Weights of several gates below each other."""
    return np.concatenate([weights.read(getattr(p, name), shape, name) for name in names])


def _sized(p: Any, gates: int, directions: int = 1) -> dict[str, Any]:
    """Size and work of a layer."""
    inputs, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    if inputs < 1 or hidden < 1:
        raise DataError(f"inputVectorSize and outputVectorSize must be positive, got {inputs}, {hidden}")

    def size(x: Array, *_: Array) -> int:
        return 2 * prod((*x.shape[:2], max(inputs, gates * hidden)))

    def work(x: Array, *_: Array) -> int:
        w, r = np.empty((gates * hidden, inputs)), np.empty((gates * hidden, hidden))
        steps, batch = _vectors(x, inputs).shape[:2]
        return directions * recurrent_work(steps, batch, w, r)

    return {"size": size, "work": work}


def _simple(p: Any, weights: Weights) -> Layer:
    inputs, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    sized = _sized(p, 1)
    (function,) = _activations([p.activation], 1)
    w = weights.read(p.weightMatrix, (hidden, inputs), "weightMatrix")
    r = weights.read(p.recursionMatrix, (hidden, hidden), "recursionMatrix")
    b = weights.read(p.biasVector, (hidden,), "biasVector") if p.hasBiasVector else None

    def run(x: Array, h: Array | None = None) -> tuple[Array, ...]:
        vectors = _vectors(x, inputs)
        vectors = vectors[::-1] if p.reverseInput else vectors
        acc = weights.policy.accumulator
        every, last = rnn_pass(vectors, _state(h, vectors, hidden), w, r, b, _clipped(function), acc=acc)
        return _rank5(every if p.sequenceOutput else every[-1:]), _rank5(last[None])

    return Layer(run, most=2, gives=(1, 2), **sized)


def _gru(p: Any, weights: Weights) -> Layer:
    inputs, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    sized = _sized(p, 3)
    gate, output = _activations(p.activations, 2)
    gates = ("resetGate", "outputGate", "updateGate")
    w = _joined(weights, p, [f"{g}WeightMatrix" for g in gates], (hidden, inputs))
    r = _joined(weights, p, [f"{g}RecursionMatrix" for g in gates], (hidden, hidden))
    b = _joined(weights, p, [f"{g}BiasVector" for g in gates], (hidden,)) if p.hasBiasVectors else None
    functions = _clipped(gate), _clipped(output)

    def run(x: Array, h: Array | None = None) -> tuple[Array, ...]:
        vectors = _vectors(x, inputs)
        vectors = vectors[::-1] if p.reverseInput else vectors
        acc = weights.policy.accumulator
        every, last = gru_pass(vectors, _state(h, vectors, hidden), w, r, b, functions, acc=acc)
        return _rank5(every if p.sequenceOutput else every[-1:]), _rank5(last[None])

    return Layer(run, most=2, gives=(1, 2), **sized)


@dataclass(frozen=True, slots=True)
class _Lstm:
    """One direction, with its weights."""

    hidden: int
    w: Array
    r: Array
    b: Array | None
    peephole: Array | None
    functions: tuple[Activation, Activation, Activation]
    clip: float
    coupled: bool
    weights: Weights

    def __call__(self, x: Array, h: Array | None, c: Array | None) -> tuple[Array, Array, Array]:
        """h of every step, and h and c of the last."""
        return lstm_pass(
            x,
            _state(h, x, self.hidden),
            _state(c, x, self.hidden),
            self.w,
            self.r,
            self.b,
            self.peephole,
            self.functions,
            self.clip,
            self.coupled,
            acc=self.weights.policy.accumulator,
        )


def _lstm(p: Any, params: Any, activations: Sequence[Any], stored: Any, weights: Weights) -> _Lstm:
    inputs, hidden = int(p.inputVectorSize), int(p.outputVectorSize)
    gate, cell, output = _activations(activations, 3)
    gates = ("inputGate", "forgetGate", "outputGate", "blockInput")
    b = None
    if params.hasBiasVectors:
        b = _joined(weights, stored, [f"{g}BiasVector" for g in gates], (hidden,))
    if params.forgetBias:
        b = np.zeros(4 * hidden, weights.policy.compute) if b is None else b
        b[hidden : 2 * hidden] += 1
    peephole = None
    if params.hasPeepholeVectors:
        peephole = _joined(weights, stored, [f"{g}PeepholeVector" for g in gates[:3]], (hidden,))
    return _Lstm(
        hidden,
        _joined(weights, stored, [f"{g}WeightMatrix" for g in gates], (hidden, inputs)),
        _joined(weights, stored, [f"{g}RecursionMatrix" for g in gates], (hidden, hidden)),
        b,
        peephole,
        (_clipped(gate), _clipped(cell), output),
        value(params, "cellClipThreshold"),
        params.coupledInputAndForgetGate,
        weights,
    )


def _uni_lstm(p: Any, weights: Weights) -> Layer:
    sized, inputs = _sized(p, 4), int(p.inputVectorSize)
    forth = _lstm(p, p.params, p.activations, p.weightParams, weights)

    def run(x: Array, h: Array | None = None, c: Array | None = None) -> tuple[Array, ...]:
        vectors = _vectors(x, inputs)
        every, h, c = forth(vectors[::-1] if p.reverseInput else vectors, h, c)
        return _rank5(every if p.params.sequenceOutput else every[-1:]), _rank5(h[None]), _rank5(c[None])

    return Layer(run, most=3, gives=(1, 3), **sized)


def _bi_lstm(p: Any, weights: Weights) -> Layer:
    """Both directions side by side; each step's backward part is of the sequence from its end to there."""
    sized, inputs = _sized(p, 4, 2), int(p.inputVectorSize)
    if len(p.weightParams) != 2:
        raise DataError(f"weights of two directions are expected, got {len(p.weightParams)}")
    forth = _lstm(p, p.params, p.activationsForwardLSTM, p.weightParams[0], weights)
    back = _lstm(p, p.params, p.activationsBackwardLSTM, p.weightParams[1], weights)

    def run(x: Array, *states: Array) -> tuple[Array, ...]:
        given: list[Array | None] = [*states, *[None] * (4 - len(states))]
        h, c, h_back, c_back = given
        vectors = _vectors(x, inputs)
        one, h, c = forth(vectors, h, c)
        other, h_back, c_back = back(vectors[::-1], h_back, c_back)
        if p.params.sequenceOutput:
            y = np.concatenate([one, other[::-1]], axis=2)
        else:
            y = np.concatenate([one[-1:], other[-1:]], axis=2)
        return (_rank5(y), *(_rank5(state[None]) for state in (h, c, h_back, c_back)))

    return Layer(run, most=5, gives=(1, 5), **sized)


LAYERS: Final[dict[str, Build]] = {
    "simpleRecurrent": _simple,
    "gru": _gru,
    "uniDirectionalLSTM": _uni_lstm,
    "biDirectionalLSTM": _bi_lstm,
}
