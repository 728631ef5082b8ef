"""What a bundle has for people: how to use it, what the model is, and whose the encoder's weights are."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from personality_common.bundle.files import file_table
from personality_common.bundle.manifest import Manifest, PackageEntry
from personality_common.contract import (
    EMBEDDING_DIM,
    HEAD_PARAMETERS,
    MANIFEST_FILE,
    TOKENIZER_FILE,
    TOKENS_FILE,
    TOP_K,
    VOCAB_SIZE,
    WORDPIECE_FILE,
)
from personality_common.files.bounded import read_bounded
from personality_common.inspection.layout import human_bytes
from personality_common.text.encoder import MINILM_REPOSITORY
from personality_common.text.identity import EncoderIdentity
from personality_common.text.sentence import MINILM_SHA256
from pretrain.personality.model_card import MODEL_CARD, model_card, said_licence
from pretrain.personality.run import Run

README: Final = "README.md"
LICENSES_DIR: Final = "licenses/TextEncoder"
_MAX_BYTES: Final = 1 << 20
_OF_LICENSES: Final = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*")
_ROUNDED: Final = {
    "int8": "rounded to 8 bits with a scale for each row, and some to float16",
    "float16": "rounded to float16",
    "float32": "as they were, in float32",
}


def write_licenses(folder: Path, encoder: EncoderIdentity, source: Path, weights: str) -> None:
    """LICENSE and NOTICE of the weights in the text encoder's package.

    Args:
        folder: the bundle.
        source: the encoder's folder; what it has of licences is copied, where they are not MiniLM's.
        weights: how the package holds them.
    """
    place = folder / LICENSES_DIR
    place.mkdir(parents=True)
    if encoder.weights_sha256 == MINILM_SHA256:
        text = files("pretrain.personality.export").joinpath("apache-2.0.txt").read_bytes()
        (place / "LICENSE").write_bytes(text)
        terms = (
            f"They are those of {MINILM_REPOSITORY}, which its authors publish under the Apache License,\n"
            "Version 2.0; LICENSE, beside this file, is its text. The original has no NOTICE of its own."
        )
    else:
        terms = "\n".join(_terms(place, source))
    notice = (
        f"TextEncoder.mlpackage holds the weights of the text encoder {encoder.name}.\n"
        f"SHA-256 of their file: {encoder.weights_sha256}\n\n{terms}\n\n"
        f"Changed: converted to Core ML; weights {_ROUNDED[weights]};\n"
        f"what the embedding of a text of up to {encoder.max_length} tokens does not depend on is left out.\n"
        f"The layer behind it, which makes {EMBEDDING_DIM} numbers of {encoder.dim}, is no part of it.\n\n"
        f"{WORDPIECE_FILE} and {TOKENIZER_FILE} are its tokenizer. Changed: {TOKENIZER_FILE} cuts off at"
        f" {encoder.max_length} tokens\nand does not pad.\n"
    )
    (place / "NOTICE").write_text(notice, encoding="utf-8")


def write_papers(folder: Path, run: Run, manifest: Manifest) -> None:
    """README and model card of a bundle whose other files are all written."""
    card = bundle_card(run, manifest)
    for name, text in ((README, "\n".join(_readme(manifest, folder)) + "\n"), (MODEL_CARD, card)):
        (folder / name).write_text(text, encoding="utf-8")


def bundle_card(run: Run, manifest: Manifest) -> str:
    """The run's card, of which the bundle keeps latents and no embeddings."""
    return model_card(
        run.record.content,
        manifest.run.fingerprint,
        manifest.run.finished,
        manifest.vocabulary.fingerprint,
        run.encoder,
        run.token_template,
        (
            "What it keeps of its training texts: embeddings of a sample, as latents in `reference/`, beside"
            " the weights. No text of a user is in the bundle; `golden/` has texts that the toolkit made up."
        ),
        {"licence of the text encoder": f"see `{LICENSES_DIR}`"} if "encoder" in manifest.packages else {},
    )


def _terms(place: Path, source: Path) -> Iterator[str]:
    copied = sorted({p for pattern in _OF_LICENSES for p in source.glob(pattern) if p.is_file()})
    for path in copied:
        name = f"original-{path.name}"
        (place / name).write_bytes(read_bounded(path, _MAX_BYTES, path.name))
        yield f"{name}, beside this file, came with them."
    if said := said_licence(source):
        yield f"The model card that came with them says: license: {said}."
    elif not copied:
        yield "Nothing in their folder says under which licence they are: find out before you ship them."


def _readme(manifest: Manifest, folder: Path) -> Iterator[str]:
    yield "# A personality model for an app"
    yield ""
    yield (
        f"Text to {VOCAB_SIZE} personality tokens, on the device. The {TOP_K} tokens with the greatest"
        " logits, in that order, condition the app's prompt. A device may change"
        f" {' and '.join(f'`{name}`' for name in HEAD_PARAMETERS)}, and nothing else. `{MANIFEST_FILE}` has"
        " all that follows for programs: every file with its SHA-256, every tensor with the place of its"
        " bytes."
    )
    yield ""
    yield "| package | how an update reaches it | from | precision | size |"
    yield "|---|---|---|---|---|"
    for entry in manifest.packages.values():
        row = (
            f"`{entry.file}`",
            entry.route or "-",
            entry.minimum_os,
            entry.precision,
            human_bytes(entry.bytes),
        )
        yield f"| {' | '.join(row)} |"
    yield ""
    for part in ("model", "updatable", "head", "stateful"):
        if part in manifest.packages:
            yield from (_ROUTES[part](manifest.packages[part]), "")
    for part, reason in manifest.left_out.items():
        yield from (f"Left out: {part}: {reason}.", "")
    yield "| file | what |"
    yield "|---|---|"
    here = sorted({Path(name).parts[0] for name in file_table(folder)})
    for name in (n for n in _FILES if n in here or n in (README, MODEL_CARD)):
        yield f"| `{name}` | {_FILES[name]} |"
    yield ""
    yield (
        f"Keep `encoder.fingerprint` ({manifest.encoder.fingerprint[:12]}…) and `run.fingerprint`"
        f" ({manifest.run.fingerprint[:12]}…) with whatever the app stores of this model: embeddings, latents"
        " and heads of another bundle are of no use here."
    )


def _patch(entry: PackageEntry) -> str:
    places = ", ".join(
        f"{t.size} bytes at {t.offset} of `{t.file}` ({t.name}, {t.dtype})"
        for t in entry.tensors
        if t.updatable
    )
    return (
        f"**`{entry.file}`**: copy the package, overwrite {places}, compile the copy, and keep the compiled"
        " model under a name of its own."
    )


def _update_task(entry: PackageEntry) -> str:
    inputs = " and ".join(f"`{port.name}`" for port in entry.training_inputs)
    return (
        f"**`{entry.file}`**: `MLUpdateTask` with {inputs}: mean squared error and SGD. Targets that are"
        " shifted by a gradient make it any loss; calibrate its factor once on a device."
    )


def _state(entry: PackageEntry) -> str:
    first = ", ".join(f"`{s.initial.file}` into `{s.name}`" for s in entry.states)
    return (
        f"**`{entry.file}`**: buffers start at zero and are not saved: after every start of the app write"
        f" {first}, or a newer head in float16."
    )


_ROUTES: Final = {"model": _patch, "updatable": _update_task, "head": _update_task, "stateful": _state}
_FILES: Final = {
    README: "this page",
    MODEL_CARD: "what the model was trained on, how well it does, and what it is not for",
    "licenses": "licence and notice of the text encoder's weights; ship them with it",
    TOKENS_FILE: "the tokens, in the order of the logits",
    WORDPIECE_FILE: "the tokenizer's vocabulary, a token a line; its number is the id",
    TOKENIZER_FILE: "the same tokenizer for the library `tokenizers`, cut off as the encoder reads",
    "initial_state": "what to write into new state buffers",
    "reference": "a sample of training texts, as numbers: budgets of updates are measured there",
    "golden": "texts with all that becomes of them, and nights of learning step by step, for the app's tests",
}
