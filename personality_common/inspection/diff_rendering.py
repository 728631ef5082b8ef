"""Print what `compare_paths` found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from personality_common.inspection.difference import (
    Change,
    Comparison,
    GraphDifference,
    ModelDifference,
    Weight,
    WeightChange,
    WeightsDifference,
)
from personality_common.inspection.layout import ROWS, cells, how_many, print_section, texts
from personality_common.printable import excerpt
from personality_common.terminal.tables import Column, Grid, figures

_SHORT_FINGERPRINT: Final = 12
_SHA256: Final = re.compile("[0-9a-f]{64}")
_PLACES: Final = 20
_ABSENT: Final = "-"
_SAME: Final = "same: features, graphs, weights, metadata and every other field"


def render_comparison(comparison: Comparison, console: Console) -> None:
    """Print what is compared, the verdict, and a section for each kind of difference."""
    for side, path in (("A", comparison.a), ("B", comparison.b)):
        console.print(Text.assemble((side, "bold"), f"  {excerpt(path, 1000)}"), soft_wrap=True)
    counts = Counter({"bundle": len(comparison.bundle)})
    for model in comparison.models:
        counts.update(model.counts)
    found = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    console.print(Text(f"different: {found}" if found else _SAME, "bold"))
    _changes(console, "Bundle", comparison.bundle)
    for model in comparison.models:
        if not model.same:
            if model.name:
                console.print()
                console.print(Text(excerpt(model.name), "bold reverse"))
            _model(console, model)


def _model(console: Console, model: ModelDifference) -> None:
    _changes(console, "Model", model.model)
    _changes(console, "Features", model.features)
    _changes(console, "Metadata", model.metadata)
    _changes(console, "Update on the device", model.update)
    if model.operations:
        several = len({count.function for count in model.operations}) > 1
        rows = [
            cells(f"{c.function}: {c.type}" if several else c.type, f"{c.a:,}", f"{c.b:,}")
            for c in model.operations[:ROWS]
        ]
        table = Grid((*texts("operation"), *figures("A", "B")), rows)
        print_section(console, "Operations" + how_many(model.operations), table)
    for graph in model.graphs:
        _graph(console, graph)
    _weights(console, model.weights)
    _changes(console, "Other fields" + ("" if model.other_is_all else ", the first of them"), model.other)


def _changes(console: Console, title: str, changes: Sequence[Change]) -> None:
    if not changes:
        return
    rows = [cells(change.what, *map(_side, (change.a, change.b))) for change in changes[:ROWS]]
    print_section(console, title + how_many(changes), Grid(texts("", "A", "B"), rows))


def _side(text: str | None) -> str:
    if text is None:
        return _ABSENT
    return f"{text[:_SHORT_FINGERPRINT]}…" if _SHA256.fullmatch(text) else text


def _graph(console: Console, graph: GraphDifference) -> None:
    rows = []
    for place in graph.places[:_PLACES]:
        mark = "only A" if place.b is None else "only B" if place.a is None else "changed"
        names = dict.fromkeys(excerpt(name, 60) for name in (place.a, place.b) if name is not None)
        rows.append(cells(mark, place.type, " -> ".join(names), "; ".join(map(_short, place.changes))))
    facts = [f"{graph.operations_a:,} -> {graph.operations_b:,} operations"]
    if graph.count:
        first = f" (the first {_PLACES})" if graph.count > _PLACES else ""
        facts.append(f"{graph.count:,} place{'s differ' if graph.count > 1 else ' differs'}{first}")
    if graph.renamed:
        facts.append(f"{graph.renamed:,} renamed")
    if not graph.aligned:
        facts.append("too different to be aligned")
    table = Grid((Column(""), *texts("operation", "name", "")), rows)
    print_section(console, f"Graph of {excerpt(graph.function, 60)}: {'; '.join(facts)}", table)


def _short(change: Change) -> str:
    a, b = (_ABSENT if text is None else excerpt(text, 60) for text in (change.a, change.b))
    return f"{excerpt(change.what, 60)}: {a} -> {b}"


def _weights(console: Console, weights: WeightsDifference) -> None:
    if weights.changed:
        _changed_weights(console, weights.changed, weights.same)
    for side, found in (("A", weights.only_a), ("B", weights.only_b)):
        if found:
            rows = [cells(w.name, w.text, _figure(w.norm), _fingerprint(w)) for w in found[:ROWS]]
            columns = (*texts("weight", "dtype and shape"), *figures("norm"), Column("fingerprint", drop=1))
            table = Grid(columns, rows)
            print_section(console, f"Weights only in {side}: {len(found):,}{how_many(found)}", table)
    if weights.renamed:
        table = Grid(texts("A", "B"), [cells(*names) for names in weights.renamed[:ROWS]])
        title = f"Weights under another name: {len(weights.renamed):,}"
        print_section(console, title + how_many(weights.renamed), table)


def _changed_weights(console: Console, changes: Sequence[WeightChange], same: int) -> None:
    columns = (
        *texts("weight", "dtype and shape"), *figures("changed", "max |B-A|", "|B-A|/|A|"),
        Column("A", drop=1), Column("B", drop=2),
    )  # fmt: skip
    rows = []
    for change in changes[:ROWS]:
        shapes = " -> ".join(dict.fromkeys((change.a.text, change.b.text)))
        elements = _ABSENT if change.changed is None else f"{change.changed:,}"
        distances = _figure(change.max_difference), _figure(change.relative)
        digests = map(_fingerprint, (change.a, change.b))
        rows.append(cells(change.a.name, shapes, elements, *distances, *digests))
    title = f"Weights that changed: {len(changes):,}, with {same:,} the same"
    print_section(console, title + how_many(changes), Grid(columns, rows))


def _figure(value: float | None) -> str:
    return _ABSENT if value is None else f"{value:.3g}"


def _fingerprint(weight: Weight) -> str:
    return weight.fingerprint[:_SHORT_FINGERPRINT]
