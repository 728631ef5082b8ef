"""Rounding to float16 in float32: the bits are those of NumPy's conversions; products and sums by layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mil_convert import convert

from device_sim.mil import load_mil
from device_sim.mil.numerics import policy
from device_sim.mil.program_model import ProgramModel
from device_sim.mil.rounding import looked_up, on_half_grid, table
from personality_common.erf import gelu

HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
FINITE = np.sort(HALVES[np.isfinite(HALVES)])
TIES = ((FINITE[:-1].astype(np.float64) + FINITE[1:]) / 2).astype(np.float32)
RNG = np.random.default_rng(0)
NUMBERS = {
    "of float16": HALVES,
    "ties": TIES,
    "above ties": np.nextafter(TIES, np.float32(np.inf)),
    "below ties": np.nextafter(TIES, np.float32(-np.inf)),
    "anything": RNG.integers(0, 1 << 32, 300_000, np.uint32).view(np.float32),
    "that rounds to zero": np.geomspace(-1e-6, -1e-12, 1000, dtype=np.float32),
    "ends": np.array([0, -0.0, np.inf, -np.inf, np.nan, 65519.996, 65520, -65520, 1e-45, -1e-45], np.float32),
    "past the end": np.array([65519.996, 65520, -65520, 131071], np.float32),
    "few": np.array([], np.float32),
    "one": np.array(np.pi, np.float32),
    "columns": RNG.normal(size=(40, 50)).astype(np.float32).T,
    "strided": RNG.normal(size=(40, 50)).astype(np.float32)[::2, ::-3],
}


def same_bits(found: np.ndarray, wanted: np.ndarray) -> bool:
    """But for the payload of what is no number."""
    numbers = ~np.isnan(wanted)
    bits = [np.ascontiguousarray(x)[numbers].view(np.uint32) for x in (found, wanted)]
    return np.array_equal(*bits) and not np.isnan(found[numbers]).any() and np.isnan(found[~numbers]).all()


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("at_a_time", [64, 1 << 20])
def test_rounding_is_that_of_float16(numbers: str, at_a_time: int) -> None:
    given = NUMBERS[numbers]
    before = given.copy()
    with np.errstate(all="ignore"):
        wanted = given.astype(np.float16).astype(np.float32)
    flat, parts = given.reshape(-1), wanted.reshape(-1)
    for start in range(0, min(flat.size, 70_000), at_a_time):  # great numbers in few of the parts
        part = slice(start, start + at_a_time)
        with np.errstate(all="ignore"):
            assert same_bits(on_half_grid(flat[part], own=False), parts[part])
    with np.errstate(all="ignore"):
        assert same_bits(on_half_grid(given, own=False), wanted)
        assert same_bits(given, before)
        assert same_bits(on_half_grid(before, own=True), wanted)


@pytest.mark.parametrize("shape", [(), (63_488,), (64, 992), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_table_has_the_values_of_its_function(shape: tuple[int, ...], order: str) -> None:
    x = np.array(RNG.permutation(FINITE)[: int(np.prod(shape))].reshape(shape), order=order)  # type: ignore[call-overload]
    found = looked_up(table(gelu), x)
    assert found.shape == shape
    assert same_bits(found, gelu(x).astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 256, 257])
@pytest.mark.parametrize(("inner", "columns"), [(1, 1), (89, 269), (1830, 9), (512, 700)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_a_transposed_weight(
    rows: int, inner: int, columns: int, dtype: type[np.floating[Any]]
) -> None:
    """Those of NumPy's product, bit for bit and as it lies in memory, whichever way round they are made."""
    x: np.ndarray = RNG.normal(size=(rows, inner)).astype(dtype)
    weight: np.ndarray = RNG.normal(size=(columns, inner)).astype(dtype)
    accumulator = policy("exact").accumulator
    found = accumulator.matmul(x, weight.T)
    np.testing.assert_array_equal(found, np.matmul(x, weight.T))
    np.testing.assert_array_equal(found, accumulator.matmul(x[None], weight.T)[0])
    assert found.flags.c_contiguous


def test_rounding_leaves_a_value_as_it_lies_in_memory() -> None:
    x = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32).transpose(0, 2, 1, 3)
    for own in (False, True):
        assert (
            on_half_grid(x.copy(order="K"), own=own).strides
            == x.astype(np.float16).astype(np.float32).strides
        )
    assert on_half_grid(x[:, ::-1], own=True).strides == x[:, ::-1].astype(np.float32).strides


def test_what_leaves_a_program_is_float16_however_it_was_kept(tmp_path: Path) -> None:
    x = RNG.normal(size=(3, 8)).astype(np.float32)
    module = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))
    convert(module, {"x": x}, precision="FLOAT16", dtype=np.float16).save(str(tmp_path / "m.mlpackage"))
    model = load_mil(tmp_path / "m.mlpackage")
    assert isinstance(model, ProgramModel)
    evaluator = model.evaluator
    found = evaluator.run({"x": x})["y"]
    assert found.dtype == np.float16
    assert not found.flags.writeable
    assert found.tobytes() == evaluator.run({"x": x}, observe=lambda record: None)["y"].tobytes()
