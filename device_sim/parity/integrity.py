"""Checks of a bundle that need no runtime: whose bytes these are, in which order, and what may change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from device_sim.parity.difference import SHOWN, difference, told
from personality_common.bundle.bundle import Bundle, Part
from personality_common.bundle.files import file_table
from personality_common.bundle.stored import Array, StoredTensor, stored_values
from personality_common.contract import (
    EMBEDDING_DIM,
    HEAD_PARAMETERS,
    TOKENS_FILE,
    VOCAB_SIZE,
)
from personality_common.coreml.package import Package
from personality_common.coreml.program import blocks, find_producer
from personality_common.coreml.values import read_value
from personality_common.evidence.claims import Check
from personality_common.files.fingerprint import fingerprint
from pretrain.personality.rules.checks import check_encoder_tensors, check_places, expected_parameters
from pretrain.personality.rules.interface import INTERFACES
from pretrain.personality.rules.rules import require_rules
from pretrain.personality.run import Run


def integrity_checks(
    bundle: Bundle, run: Run | None, encoder_values: Mapping[str, Array] | None = None
) -> Iterator[Check]:
    """All of them; `run` is the bundle's, and with the parameters of its encoder, if at hand."""
    yield told("", "files", "files have the sizes and SHA-256 of the manifest", _files(bundle))
    yield told("", "vocabulary", "vocabulary: one order everywhere", _vocabulary(bundle, run))
    nights = "" if bundle.golden_night else "; the bundle has no golden nights"
    yield told("", "golden", f"golden vectors have their fingerprints and tokens{nights}", _golden(bundle))
    yield told("", "tolerances", "tolerances are not wider than this toolkit's", _tolerances(bundle))
    yield told("", "shared-tensors", "packages agree on the parameters that they share", _agreement(bundle))
    for part in bundle.parts:
        yield told(
            part.file, "tensors", "tensors have the fingerprints of the manifest", _tensors(bundle, part)
        )
        if run is not None and part.name != "encoder":
            yield told(part.file, "tensors-of-run", "tensors are the run's", _tensors_of_run(part, run))
        if part.name == "encoder" and encoder_values is not None:
            yield told(
                part.file,
                "tensors-of-run",
                "tensors are the run's",
                _tensors_of_encoder(part, encoder_values),
            )
        yield told(
            part.file, "interface", "interface, metadata, and only the head updatable", _rules(bundle, part)
        )
        yield told(part.file, "program", "the program reads the parameters where they are", _program(part))
        if part.entry.kind != "neuralNetwork":
            yield told(part.file, "gelu", "GELU is exact (erf)", _gelu(part))


def _files(bundle: Bundle) -> Iterator[str]:
    stated, actual = bundle.manifest.files, file_table(bundle.path)
    for name in sorted(stated.keys() | actual.keys()):
        if name not in actual:
            yield f"{name} is missing"
        elif name not in stated:
            yield f"{name} is not in the manifest"
        elif stated[name] != actual[name]:
            what = "size" if stated[name].bytes != actual[name].bytes else "SHA-256"
            yield f"{name} has another {what}"


def _vocabulary(bundle: Bundle, run: Run | None) -> Iterator[str]:
    ours = bundle.vocabulary
    if run is not None:
        yield from _order("the run", run.vocabulary.tokens, ours.tokens)
    for part in bundle.parts:
        own = Package.open(part.path).spec.description.metadata.userDefined
        yield from _order(part.file, tuple(own.get("vocabulary", "").split(",")), ours.tokens)
    if bundle.manifest.vocabulary.fingerprint != ours.fingerprint:
        yield f"{TOKENS_FILE} has another fingerprint than the manifest states"


def _order(where: str, theirs: tuple[str, ...], ours: tuple[str, ...]) -> Iterator[str]:
    if theirs == ours:
        return
    if len(theirs) != len(ours):
        yield f"{where} has {len(theirs)} tokens, {TOKENS_FILE} {len(ours)}"
        return
    differing = [i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
    first = differing[0]
    if len(differing) == 2 and theirs[differing[1]] == ours[first] and ours[differing[1]] == theirs[first]:
        yield (
            f"{where} has tokens {first} and {differing[1]} swapped: {theirs[first]!r} where {TOKENS_FILE} "
            f"has {ours[first]!r}"
        )
    else:
        yield (
            f"{where} differs from {TOKENS_FILE} in {len(differing)} tokens, first in token {first}: "
            f"{theirs[first]!r}, not {ours[first]!r}"
        )


def _golden(bundle: Bundle) -> Iterator[str]:
    record, arrays = bundle.golden.record, bundle.golden.arrays
    for name, array in arrays.items():
        if fingerprint(array) != record.arrays[name].fingerprint:
            yield f"golden {name} has another fingerprint"
    if (nights := bundle.golden_night) is not None:
        for name, array in nights.arrays.items():
            if fingerprint(array) != nights.record.arrays[name].fingerprint:
                yield f"{name} of the golden nights has another fingerprint"
    top = np.argsort(-arrays["logits"], axis=1, kind="stable")[:, : len(record.top_indices[0])]
    if top.tolist() != [list(row) for row in record.top_indices]:
        yield "golden top_indices are not those of the golden logits"
    yield from _named(bundle, top.tolist(), record.top_tokens)
    yield from _named(bundle, record.shipped_top_indices or (), record.shipped_top_tokens or ())


def _named(bundle: Bundle, top: Sequence[Sequence[int]], named: Sequence[Sequence[str]]) -> Iterator[str]:
    """Tokens that are not what the vocabulary calls those outputs."""
    names = dict(enumerate(bundle.vocabulary.tokens))
    for row, (indices, tokens) in enumerate(zip(top, named, strict=True)):
        for index, token in zip(indices, tokens, strict=True):
            if names.get(index) != token:
                yield (
                    f"golden text {row} was given {token!r} by output {index}, which {TOKENS_FILE} calls "
                    f"{names.get(index)!r}"
                )


def _tolerances(bundle: Bundle) -> Iterator[str]:
    for own in bundle.family.tolerances:
        theirs = bundle.tolerances.get(own.name)
        if theirs is not None and (theirs.bound != own.bound or not own.holds(theirs.value)):
            wanted = f"{own.bound} {own.value:g}"
            yield f"{own.name} is {theirs.bound} {theirs.value:g}, must be {wanted} or tighter"


def _agreement(bundle: Bundle) -> Iterator[str]:
    by_name: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for part in bundle.parts:
        for tensor in part.tensors:
            by_name[tensor.name, tensor.dtype][tensor.fingerprint].append(part.title)
    for (name, dtype), prints in by_name.items():
        if len(prints) > 1:
            groups = " and ".join(", ".join(parts) for parts in prints.values())
            yield f"{name} ({dtype}) differs between {groups}"


def _tensors(bundle: Bundle, part: Part) -> Iterator[str]:
    if part.name != "encoder":
        names = sorted(tensor.name for tensor in part.tensors)
        if names != (expected := sorted(expected_parameters(part.name))):
            differing = sorted(set(names) ^ set(expected))[:SHOWN]
            yield f"the manifest names {len(names)} of {len(expected)} parameters, differing in {differing}"
    for tensor in part.tensors:
        array = tensor.read(part.path)
        if fingerprint(array) != tensor.fingerprint:
            other = _elsewhere(bundle, tensor)
            yield f"{tensor.name} has another fingerprint: {difference(array, tensor.fingerprint, other)}"
        if tensor.updatable != (tensor.name in HEAD_PARAMETERS):
            yield f"{tensor.name} is marked {'' if tensor.updatable else 'not '}updatable"
    for state in part.entry.states:
        if fingerprint(state.read(bundle.path)) != state.initial.fingerprint:
            yield f"initial state {state.name} has another fingerprint"


def _elsewhere(bundle: Bundle, tensor: StoredTensor) -> Array | None:
    """A tensor that has this fingerprint, from any package."""
    for part in bundle.parts:
        for other in part.tensors:
            if other.fingerprint == tensor.fingerprint:
                array = other.read(part.path)
                if fingerprint(array) == tensor.fingerprint:
                    return array
    return None


def _tensors_of_run(part: Part, run: Run) -> Iterator[str]:
    values = {name: p.detach().numpy() for name, p in run.model.named_parameters()}
    differing = []
    for tensor in part.tensors:
        if tensor.name not in values:
            yield f"the run has no {tensor.name}"
            continue
        wanted = stored_values(tensor.name, values[tensor.name], tensor.dtype)
        array = tensor.read(part.path)
        if (print_ := fingerprint(wanted)) != fingerprint(array):
            differing.append(tensor.name)
            yield f"{tensor.name} is not the run's: {difference(array, print_, wanted)}"
    if differing and set(differing) <= set(HEAD_PARAMETERS):
        yield "all else is: if the bundle was exported with a head of pt grpo, name it with --head"


def _tensors_of_encoder(part: Part, values: Mapping[str, Array]) -> Iterator[str]:
    check_encoder_tensors(Package.open(part.path), part.tensors, values)
    yield from ()


def _rules(bundle: Bundle, part: Part) -> Iterator[str]:
    package = Package.open(part.path)
    require_rules(package, INTERFACES[part.name], _metadata(bundle))
    stated = {t.name for t in part.tensors if t.updatable}
    if not stated <= set(HEAD_PARAMETERS):
        yield f"{sorted(stated - set(HEAD_PARAMETERS))} must not be updatable"
    if part.entry.updatable != package.spec.isUpdatable:
        yield f"isUpdatable is {package.spec.isUpdatable}, the manifest states {part.entry.updatable}"


def _metadata(bundle: Bundle) -> Mapping[str, str]:
    manifest = bundle.manifest
    return {
        "updatable_parameters": ",".join(HEAD_PARAMETERS),
        "vocab_size": str(VOCAB_SIZE),
        "embedding_dim": str(EMBEDDING_DIM),
        "encoder_version": manifest.encoder.version,
        "run_fingerprint": manifest.run.fingerprint,
        "vocabulary_fingerprint": manifest.vocabulary.fingerprint,
        "encoder_fingerprint": manifest.encoder.fingerprint,
    }


def _program(part: Part) -> Iterator[str]:
    check_places(part, Package.open(part.path))
    yield from ()


def _gelu(part: Part) -> Iterator[str]:
    """The one op whose meaning hangs on a constant that has no fingerprint."""
    package = Package.open(part.path)
    for program in (package, *package.submodels):
        if program.kind != "mlProgram":
            continue
        for _, block in blocks(program):
            for operation in block.operations:
                if operation.type == "gelu" and (mode := _mode(program, block, operation)) != "EXACT":
                    yield f"gelu %{operation.outputs[0].name} is computed as {mode}, the model's is EXACT"


def _mode(package: Package, block: object, operation: object) -> str:
    argument = operation.inputs["mode"].arguments[0]  # type: ignore[attr-defined]
    if argument.WhichOneof("binding") == "value":
        return str(read_value(package, argument.value).item())
    constant = find_producer(block, argument.name)
    return str(read_value(package, constant.attributes["val"]).item())
