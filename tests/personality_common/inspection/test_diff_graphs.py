"""Where the graphs of two models part."""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mil_protobufs as mil
import numpy as np
import pytest

from personality_common.coreml.describe import describe
from personality_common.coreml.package import Package
from personality_common.errors import DataError
from personality_common.inspection import graphs
from personality_common.inspection.difference import Change, GraphDifference, Place


def compared(a: Any, b: Any) -> GraphDifference:
    sides = []
    for model in (a, b):
        package = Package(Path(), model, "", Path())
        fingerprints = {t.name: t.fingerprint for t in describe(package, fingerprints=True).tensors}
        sides.append(graphs.ProgramGraph(package, "main", fingerprints))
    return graphs.compare_graphs("main", *sides)


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """By the table that everyone knows."""
    best = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            best[i + 1, j + 1] = best[i, j] + 1 if x == y else max(best[i, j + 1], best[i + 1, j])
    return int(best[-1, -1])


def test_as_much_as_can_be_is_aligned() -> None:
    rng = random.Random(0)
    for _ in range(400):
        a, b = ([rng.choice("abc"[: rng.randint(1, 3)]) for _ in range(rng.randint(0, 9))] for _ in "ab")
        pairs, whole = graphs.align(a, b)
        assert whole
        assert len(pairs) == longest_common_subsequence(a, b), (a, b, pairs)
        assert all(a[i] == b[j] for i, j in pairs)
        assert all(i < k and j < m for (i, j), (k, m) in itertools.pairwise(pairs))


def test_what_is_too_different_is_not_aligned_but_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = list("hhxxxxtt"), list("hhyyyyytt")
    monkeypatch.setattr(graphs, "MOST_EDITS", 9)
    assert graphs.align(a, b) == ([(0, 0), (1, 1), (6, 7), (7, 8)], True)
    monkeypatch.setattr(graphs, "MOST_EDITS", 8)
    assert graphs.align(a, b) == ([(0, 0), (1, 1), (6, 7), (7, 8)], False)
    first = mil.program(*(mil.op("relu", f"a{i}", x="x") for i in range(4)), mil.op("exp", "y", x="a3"))
    second = mil.program(*(mil.op("tanh", f"b{i}", x="x") for i in range(5)), mil.op("exp", "y", x="b4"))
    found = compared(first, second)
    assert (found.aligned, found.operations_a, found.operations_b, found.count) == (False, 5, 6, 10)


def test_an_operation_more_is_one_place_though_all_names_move() -> None:
    a = mil.program(
        mil.const("c", mil.inline([1.0, 2.0])), mil.op("add", "v1", x="x", y="c"),
        mil.op("relu", "v2", x="v1"), mil.op("add", "v3", x="v2", y="c"), mil.op("relu", "y", x="v3"),
    )  # fmt: skip
    b = mil.program(
        mil.op("exp", "v1", x="x"), mil.const("d", mil.inline([1.0, 2.0])),
        mil.op("add", "v2", x="v1", y="d"), mil.op("relu", "v3", x="v2"),
        mil.op("add", "v4", x="v3", y="d"), mil.op("relu", "y", x="v4"),
    )  # fmt: skip
    found = compared(a, b)
    assert (found.operations_a, found.operations_b, found.aligned) == (4, 5, True)
    # What reads v1 in A reads v2 in B alike.
    assert found.places == (Place("exp", None, "v1"), Place("add", "v1", "v2", (Change("x", "x", "v1"),)))
    assert (found.count, found.renamed) == (2, 2)
    assert compared(a, a) == GraphDifference("main", 4, 4, True, 0, (), 0)
    back = compared(b, a)
    assert back.places[0] == Place("exp", "v1", None)


def test_what_an_operation_computes_with_is_compared() -> None:
    def model(axes: Any, epsilon: float, shape: Sequence[int], gamma: Any, mode: str = "a") -> Any:
        return mil.program(
            mil.const("axes", mil.inline(axes)), mil.const("gamma", mil.inline(gamma)),
            mil.op("norm", "n", shape, x="x", axes="axes", gamma="gamma", epsilon=mil.inline(epsilon)),
            mil.op("act", "y", x="n", mode=mil.inline(mode)),
        )  # fmt: skip

    a = model([-1], 1e-5, (1, 2), [1.0, 1.0])
    (place,) = compared(a, model([0, 1], 1e-12, (1, 2), [1.0, 1.0])).places
    assert place == Place("norm", "n", "n", (
        Change("axes", "[-1] int32", "[0, 1] int32"), Change("epsilon", "1e-05 float32", "1e-12 float32"),
    ))  # fmt: skip
    (place,) = compared(a, model([-1], 1e-5, (1, 3), [1.0, 1.0, 1.0])).places
    assert place.changes == (
        Change("gamma", "float32 2", "float32 3"), Change("gives", "float32 1x2", "float32 1x3"),
    )  # fmt: skip
    assert compared(a, model([-1], 1e-5, (1, 2), [7.0, 1.0])).count == 0
    (place,) = compared(a, model([-1], 1e-5, (1, 2), [1.0, 1.0], "b")).places
    assert place.changes == (Change("mode", "a string", "b string"),)
    # Of long ones, whether they are the same.
    long = [list(range(100)), [*range(99), 7]]
    (place,) = compared(model(long[0], 1, (1, 2), [1.0]), model(long[1], 1, (1, 2), [1.0])).places
    assert [change.what for change in place.changes] == ["axes"]
    assert place.changes[0].a != place.changes[0].b


def test_wires_that_are_swapped() -> None:
    def model(first: str, second: str) -> Any:
        relu, exp = mil.op("relu", "r", x="x"), mil.op("exp", "e", x="x")
        return mil.program(relu, exp, mil.op("sub", "y", x=first, y=second))

    (place,) = compared(model("r", "e"), model("e", "r")).places
    assert place == Place("sub", "y", "y", (Change("x", "r", "e"), Change("y", "e", "r")))


def test_an_output_that_comes_from_elsewhere() -> None:
    """The same operations, of which another one is given the output's name."""

    def model(first: str, second: str, output: str = "y") -> Any:
        operations = mil.op("relu", first, x="x"), mil.op("exp", second, x=first)
        return mil.program(*operations, outputs=[output])

    (place,) = compared(model("y", "z"), model("z", "y")).places
    assert place == Place("outputs", "y", "y", (Change("in the names of B", "z", "y"),))
    assert compared(model("r", "y"), model("r", "q", "q")).places == ()


def test_weights_that_are_swapped() -> None:
    def model(first: str, second: str, number: float = 1.0) -> Any:
        return mil.program(
            mil.const("u", mil.inline([number, 2.0])), mil.const("v", mil.inline([3.0, 4.0])),
            mil.op("add", "a", x="x", y=first), mil.op("mul", "y", x="a", y=second),
        )  # fmt: skip

    swapped = Change("y", "u", "v"), Change("y", "v", "u")
    assert [place.changes for place in compared(model("u", "v"), model("v", "u")).places] == [
        (swapped[0],), (swapped[1],),
    ]  # fmt: skip
    # Other elements alone are no matter of the graph.
    assert compared(model("u", "v"), model("u", "v", 7.0)).count == 0


def test_operations_of_nested_blocks() -> None:
    def model(inner: str) -> Any:
        cond = mil.op("cond", "y", pred=mil.inline(True))
        for type_ in ("relu", inner):
            cond.blocks.add(outputs=["z"]).operations.append(mil.op(type_, "z", x="x"))
        return mil.program(cond)

    found = compared(model("exp"), model("tanh"))
    assert found.places == (Place("exp", "z", None), Place("tanh", None, "z"))


def test_there_are_not_more_places_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_PLACES", 3)
    a = mil.program(*(mil.op("relu", f"a{i}", x="x", alpha=mil.inline(1.0)) for i in range(4)))
    b = mil.program(*(mil.op("relu", f"a{i}", x="x", alpha=mil.inline(2.0)) for i in range(6)))
    found = compared(a, b)
    assert (found.count, len(found.places)) == (6, 3)
    monkeypatch.setattr(graphs, "MOST_OPERATIONS", 5)
    with pytest.raises(DataError, match="6 operations; the limit is 5"):
        compared(a, b)


def test_layers_of_networks() -> None:
    def model(*, alpha: float, inner: str = "ReLU", updatable: bool = False) -> Any:
        def leaky(layer: Any) -> None:
            layer.activation.leakyReLU.alpha = alpha
            layer.isUpdatable = updatable

        def branch(layer: Any) -> None:
            mil.activation(inner)(layer.branch.ifBranch.layers.add(name="inner", input=["x"], output=["z"]))

        spec = mil.network({"dense": mil.dense([[1, 2], [3, 4]]), "leaky": leaky, "branch": branch})
        return graphs.NetworkGraph(spec.neuralNetwork)

    def places(**changed: Any) -> tuple[Place, ...]:
        found = graphs.compare_graphs("layers", model(alpha=0.25), model(**{"alpha": 0.25} | changed))
        assert found.operations_a == 4
        return found.places

    assert places() == ()
    (place,) = places(alpha=0.1)
    assert place == Place("activation", "leaky", "leaky", (Change("leakyReLU.alpha", "0.25", "0.1"),))
    (place,) = places(updatable=True)
    assert place.changes == (Change("isUpdatable", None, "true"),)
    (place,) = places(inner="tanh")
    assert place.a == "inner"
    assert set(place.changes) == {Change("ReLU", "set", None), Change("tanh", None, "set")}
