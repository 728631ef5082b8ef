"""Examples on disk: a JSONL file and its manifest, as the story engine writes and reads them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError, MismatchError
from personality_common.files.atomic import atomic_writer, read_json_object, write_json
from personality_common.printable import described
from pretrain.character.schema import FEATURES, SCHEMA_NAMES, Output, Schema, load_schema
from pretrain.data.json_records import read_json_lines
from pretrain.data.schemas import BadRecord

Numbers = NDArray[np.float32]

MANIFEST_VERSION: Final = "0.1.0"
MANIFEST_SUFFIX: Final = ".manifest.json"
SUM_TOLERANCE: Final = 1e-4
"""Of probabilities that were written with few digits."""


@dataclass(frozen=True)
class Cell:
    """Who meets whom, how they stand, and in what kind of scene; the character predicted is A.

    `a_is_role_a` says which side of the dynamic A is on.
    """

    archetype_a: str
    archetype_b: str
    dynamic: str
    a_is_role_a: bool
    profile: str
    genre: str

    @property
    def key(self) -> str:
        """What is equal for examples that must not be divided by a split."""
        return f"{self.archetype_a}|{self.archetype_b}|{self.dynamic}|{self.profile}|{self.a_is_role_a}"


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        id: a UUID of version 7.
        variation: number of the example in its cell.
        features: 453.
        labels: drawn, flat.
        expected: their expectation (probabilities of classes, means of numbers); None where unknown.
        coherence: 0 to 1.
    """

    id: str
    cell: Cell
    variation: int
    features: list[float]
    labels: list[float]
    expected: list[float] | None
    coherence: float

    def to_json(self) -> dict[str, Any]:
        known = {} if self.expected is None else {"expected": self.expected}
        return {
            "id": self.id,
            "cell": asdict(self.cell),
            "variation": self.variation,
            "features": self.features,
            "labels": self.labels,
            **known,
            "coherence_score": self.coherence,
            "content_hash": content_hash(self.features, self.labels),
        }


@dataclass(frozen=True)
class Examples:
    """What a file holds.

    Attributes:
        features: (n, 453) float32.
        labels: (n, 42 or 49) float32.
        expected: like the labels; None where the file has none.
        cells: key of each example's cell.
        archetypes: name of each example's character A.
        fingerprint: SHA-256, in hex, of the content hashes, in order.
    """

    schema: Schema
    features: Numbers
    labels: Numbers
    expected: Numbers | None
    cells: NDArray[np.str_]
    archetypes: NDArray[np.str_]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.features)


def subset(examples: Examples, rows: NDArray[np.int64]) -> Examples:
    """Some of the examples."""
    return Examples(
        schema=examples.schema,
        features=examples.features[rows],
        labels=examples.labels[rows],
        expected=None if examples.expected is None else examples.expected[rows],
        cells=examples.cells[rows],
        archetypes=examples.archetypes[rows],
        fingerprint=examples.fingerprint,
    )


def content_hash(features: list[float], labels: list[float]) -> str:
    """SHA-256, in hex, of features and labels as little-endian float32."""
    return hashlib.sha256(np.array([*features, *labels], "<f4").tobytes()).hexdigest()


def manifest_path(path: Path) -> Path:
    """`x.manifest.json` of `x.jsonl`."""
    return path.with_name(path.name.removesuffix(".jsonl") + MANIFEST_SUFFIX)


def write_examples(
    path: Path, examples: Iterable[Example], schema: Schema, seed: int, least_coherence: float
) -> dict[str, Any]:
    """Write a JSONL file and its manifest; returns the manifest.

    Args:
        least_coherence: examples below it are left out and counted.
    """
    total, scores, triples = 0, [], set()
    with atomic_writer(path) as file:
        for example in examples:
            total += 1
            if example.coherence < least_coherence:
                continue
            scores.append(example.coherence)
            cell = example.cell
            triples.add((cell.archetype_a, cell.archetype_b, cell.dynamic))
            line = json.dumps(example.to_json(), separators=(",", ":"), allow_nan=False)
            file.write(line.encode() + b"\n")
    manifest = {
        "version": MANIFEST_VERSION,
        "total_generated": total,
        "total_valid": len(scores),
        "total_rejected": total - len(scores),
        "mean_coherence": round(sum(scores) / len(scores), 6) if scores else 0.0,
        "matrix_coverage": len(triples),
        "input_features": FEATURES,
        "output_features": schema.size,
        "generated_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "schema": schema.name,
        "schema_sha256": schema.fingerprint,
    }
    write_json(manifest_path(path), manifest)
    return manifest


def read_examples(path: Path) -> Examples:
    """Read a JSONL file whose manifest lies beside it.

    Raises:
        DataError: no such file, no examples, or a malformed one, with file and line: not JSON, a missing
            key, a wrong length, a number that is not finite, a label that its output cannot have, a hash
            that is not that of the numbers.
        MismatchError: the manifest's schema is none of ours.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; pt character data makes one")
    schema = _manifest_schema(manifest_path(path))
    rows = [_checked(record, schema, f"{path}:{line}") for line, record in read_json_lines(path)]
    if not rows:
        raise DataError(f"{path}: must have at least one example, has none")
    labels = np.stack([row.labels for row in rows])
    known = [row.expected for row in rows if row.expected is not None]
    if 0 < len(known) < len(rows):
        raise DataError(f"{path}: expected must be in all {len(rows)} lines or in none, is in {len(known)}")
    expected = np.stack(known) if known else None
    for output in schema.outputs:
        place = schema.places[output.key]
        _refuse(_not_labels(output, labels[:, place]), rows, labels[:, place], f"label {output.key}")
        if expected is not None and output.kind in ("class", "binary"):
            bad = _not_probabilities(output, expected[:, place])
            _refuse(bad, rows, expected[:, place], f"expected {output.key}")
    return Examples(
        schema=schema,
        features=np.stack([row.features for row in rows]),
        labels=labels,
        expected=expected,
        cells=np.array([row.cell for row in rows]),
        archetypes=np.array([row.archetype for row in rows]),
        fingerprint=hashlib.sha256("".join(row.hash for row in rows).encode()).hexdigest(),
    )


def _manifest_schema(path: Path) -> Schema:
    manifest = read_json_object(path)
    sizes = (manifest.get("input_features"), manifest.get("output_features"))
    # The engine's own manifests name no schema; theirs is v1.
    name = manifest.get("schema", "v1")
    if name not in SCHEMA_NAMES:
        raise MismatchError(f"{path}: schema must be one of {', '.join(SCHEMA_NAMES)}, is {described(name)}")
    schema = load_schema(name)
    if sizes != (FEATURES, schema.size):
        raise MismatchError(
            f"{path}: schema {name} has {FEATURES} inputs and {schema.size} outputs, the file {sizes[0]} and "
            f"{sizes[1]}"
        )
    theirs = manifest.get("schema_sha256", schema.fingerprint)
    if theirs != schema.fingerprint:
        raise MismatchError(
            f"{path}: its schema {name} is another than this toolkit's ({theirs!r:.20} and "
            f"{schema.fingerprint[:16]}); make the data again with pt character data"
        )
    return schema


@dataclass(frozen=True)
class _Row:
    where: str
    features: Numbers
    labels: Numbers
    expected: Numbers | None
    cell: str
    archetype: str
    hash: str


def _checked(record: object, schema: Schema, where: str) -> _Row:
    if isinstance(record, BadRecord):
        raise DataError(f"{where}: {record}")
    if not isinstance(record, dict):
        raise DataError(f"{where}: must be an object, is a {type(record).__name__}")
    try:
        cell = Cell(**record["cell"])
        features, labels, declared = record["features"], record["labels"], record["content_hash"]
    except KeyError as error:
        raise DataError(f"{where}: {error.args[0]} is missing") from None
    except TypeError:
        fields = ", ".join(Cell.__dataclass_fields__)
        raise DataError(f"{where}: cell must be an object of {fields}") from None
    features = read_numbers(features, FEATURES, f"{where}: features")
    labels = read_numbers(labels, schema.size, f"{where}: labels")
    found = hashlib.sha256(features.tobytes() + labels.tobytes()).hexdigest()
    if found != declared:
        raise DataError(
            f"{where}: content_hash must be {found}, is {described(declared)}: the line was changed"
        )
    expected = record.get("expected")
    if expected is not None:
        expected = read_numbers(expected, schema.size, f"{where}: expected")
    return _Row(where, features, labels, expected, cell.key, str(cell.archetype_a), found)


def read_numbers(value: object, size: int, what: str) -> Numbers:
    """A list of a JSON document as float32.

    Args:
        what: it is, for the error.

    Raises:
        DataError: no list of so many numbers, or one that is not finite, with its position.
    """
    if not isinstance(value, list) or len(value) != size:
        found = f"{len(value)}" if isinstance(value, list) else f"a {type(value).__name__}"
        raise DataError(f"{what} must be {size} numbers, is {found}")
    if not set(map(type, value)) <= {int, float}:
        bad = next(i for i, number in enumerate(value) if type(number) not in (int, float))
        raise DataError(f"{what}[{bad}] must be a number, is {described(value[bad])}")
    try:
        with np.errstate(over="ignore"):
            array = np.array(value, "<f4")
    except OverflowError:
        raise DataError(f"{what} has a number beyond float32") from None
    if not np.isfinite(array).all():
        bad = np.isfinite(array).argmin()
        raise DataError(f"{what}[{bad}] must be finite, is {value[bad]}")
    return array


def _not_labels(output: Output, values: Numbers) -> NDArray[np.bool_]:
    """(n, size) -> (n,) rows that the output cannot have."""
    wrong: NDArray[np.bool_]
    if output.kind == "class":
        # A one-hot, and nothing else, has one value that is not 0 and a greatest one of 1.
        wrong = np.logical_or(np.count_nonzero(values, axis=1) != 1, values.max(axis=1) != 1)
    elif output.kind == "binary":
        wrong = np.any((values != 0) & (values != 1), axis=1)
    elif output.kind == "constant":
        wrong = np.any(values != np.rint(values), axis=1)
    else:
        wrong = np.any((values < output.low) | (output.high < values), axis=1)
    return wrong


def _not_probabilities(output: Output, values: Numbers) -> NDArray[np.bool_]:
    outside: NDArray[np.bool_] = np.any((values < 0) | (values > 1), axis=1)
    if output.kind == "class":
        outside |= abs(values.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE
    return outside


def _refuse(bad: NDArray[np.bool_], rows: list[_Row], values: Numbers, what: str) -> None:
    if bad.any():
        first = int(bad.argmax())
        kind = {"label": "what the schema allows", "expected": "probabilities"}[what.split()[0]]
        raise DataError(f"{rows[first].where}: {what} must be {kind}, is {values[first].tolist()}")
