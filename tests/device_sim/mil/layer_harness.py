"""Networks of one layer, and the cases that hold each layer against something independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mil_quiet  # noqa: F401
import numpy as np
import torch
from coremltools.models import datatypes
from coremltools.models.neural_network import NeuralNetworkBuilder
from coremltools.proto import NeuralNetwork_pb2
from mil_harness import package_of

from device_sim.mil import load_mil

Make = Callable[[NeuralNetworkBuilder, list[str], list[str]], Any]
Expected = torch.Tensor | np.ndarray


@dataclass(frozen=True)
class LayerCase:
    """A network of one layer, and what it must give."""

    layer: str
    make: Make
    """Adds the layer to a builder; inputs are x0, x1, …, outputs y0, y1, …"""
    inputs: tuple[np.ndarray, ...]
    expected: tuple[Expected, ...]
    what: str = ""
    rank5: bool = False
    atol: float = 1e-6
    torch: bool = False
    """torch is the judge; else values by hand, or NumPy's plain formula."""

    @property
    def name(self) -> str:
        return f"{self.layer} {self.what}".strip()


def case(
    layer: str,
    make: Make,
    inputs: Sequence[Any],
    *expected: Any,
    what: str = "",
    rank5: bool = False,
    atol: float = 1e-6,
) -> LayerCase:
    arrays = tuple(np.asarray(x, np.float32) for x in inputs)
    judged = any(isinstance(e, torch.Tensor) for e in expected)
    values = tuple(e.detach() if isinstance(e, torch.Tensor) else np.asarray(e) for e in expected)
    return LayerCase(layer, make, arrays, values, what, rank5, atol, judged)


def fields(layer: str, **values: Any) -> Make:
    """The layer as a plain protobuf; lists extend repeated fields, arrays are weights, a dict a message."""

    def make(builder: NeuralNetworkBuilder, inputs: list[str], outputs: list[str]) -> None:
        proto = builder.nn_spec.layers.add(name="l", input=inputs, output=outputs)
        params = getattr(proto, layer)
        params.SetInParent()
        fill(params, values)

    return make


def fill(message: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            getattr(message, name).floatValue.extend(value.astype(np.float32).ravel())
        elif isinstance(value, dict):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list | tuple):
            getattr(message, name).extend(value)
        elif isinstance(value, str):
            enum = message.DESCRIPTOR.fields_by_name[name].enum_type
            setattr(message, name, enum.values_by_name[value].number)
        else:
            setattr(message, name, value)


def built(method: str, **arguments: Any) -> Make:
    """The layer as coremltools' builder adds it; it takes input or inputs, output or outputs."""

    def make(builder: NeuralNetworkBuilder, inputs: list[str], outputs: list[str]) -> None:
        add = getattr(builder, f"add_{method}")
        names = add.__code__.co_varnames[: add.__code__.co_argcount]
        given: dict[str, Any] = {"name": "l"}
        if "input_names" in names:
            given["input_names"] = inputs
        elif "input_name" in names:
            given["input_name"] = inputs[0] if len(inputs) == 1 else inputs
        given |= {"output_names": outputs} if "output_names" in names else {"output_name": outputs[0]}
        add(**given, **arguments)

    return make


def network(case: LayerCase) -> Any:
    """The specification."""
    inputs = [(f"x{i}", datatypes.Array(*x.shape)) for i, x in enumerate(case.inputs)]
    outputs = [(f"y{i}", datatypes.Array(1)) for i in range(len(case.expected))]
    builder = NeuralNetworkBuilder(
        inputs or [("unused", datatypes.Array(1))], outputs, disable_rank5_shape_mapping=not case.rank5
    )
    case.make(builder, [name for name, _ in inputs if case.inputs], [name for name, _ in outputs])
    for output in builder.spec.description.output:
        output.type.multiArrayType.ClearField("shape")  # any
    return builder.spec


def given(case: LayerCase) -> dict[str, np.ndarray]:
    return {f"x{i}": x for i, x in enumerate(case.inputs)} or {"unused": np.zeros(1, np.float32)}


def check(case: LayerCase) -> None:
    """Shape, then values: up to a few units of the last place of values around 1, or sums of tens of them."""
    outputs = load_mil(package_of(network(case))).predict(given(case))
    for i, expected in enumerate(case.expected):
        array = expected.numpy() if isinstance(expected, torch.Tensor) else expected
        got = outputs[f"y{i}"]
        assert got.shape == (array.shape or (1,)), f"{case.name}, output {i}"
        np.testing.assert_allclose(got, array.reshape(got.shape), rtol=2e-6, atol=case.atol)


LAYER_TYPES = tuple(
    field.name for field in NeuralNetwork_pb2.NeuralNetworkLayer.DESCRIPTOR.oneofs_by_name["layer"].fields
)
"""All that the format has."""
