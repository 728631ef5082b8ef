"""What people should know of a personality model: beside its run, and in its bundle."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from personality_common.contract import EMBEDDING_DIM, LATENT_DIM, VOCAB_SIZE
from personality_common.files.bounded import read_bounded
from personality_common.text.encoder import ENCODERS, MINILM_REPOSITORY
from personality_common.text.identity import EncoderIdentity
from personality_common.text.sentence import MINILM_SHA256
from pretrain.personality.config import PretrainConfig

MODEL_CARD: Final = "MODEL_CARD.md"
_MAX_BYTES: Final = 1 << 20
_KEPT_IN_RUN: Final = (
    "What the run keeps of its training texts: base embeddings of a sample in `reference_texts.safetensors`,"
    " and of all of them in `cache/`, unless `--cache-dir` named another place. Texts can be guessed from"
    " embeddings: keep both as you keep the texts. No text is in the run."
)
_HOW: Final = ("output_dir", "resume", "overwrite", "device", "cache_dir", "track", "keep_checkpoints")
"""Options that say where and how, not what is trained."""


def run_card(
    content: Mapping[str, Any],
    fingerprint: str,
    vocabulary: str,
    encoder: EncoderIdentity,
    encoder_folder: Path | None,
    config: PretrainConfig,
) -> str:
    """The card of a run.

    Args:
        content: of its `run.json`.
        fingerprint, vocabulary: of the run, of its tokens.
        encoder_folder: of its weights; None for a hosted one.
    """
    return model_card(
        content,
        fingerprint,
        content["finished"],
        vocabulary,
        encoder,
        config.token_template,
        _KEPT_IN_RUN,
        {
            "licence of the text encoder": encoder_licence(encoder, encoder_folder),
            "command": f"`{command(config)}`",
            "versions": ", ".join(f"{name} {number}" for name, number in content["versions"].items()),
        },
    )


def model_card(
    content: Mapping[str, Any],
    fingerprint: str,
    finished: str | None,
    vocabulary: str,
    encoder: EncoderIdentity,
    token_template: str,
    keeps: str,
    more: Mapping[str, str],
) -> str:
    """Markdown: facts, what the model says, what it is for and not for, and what it keeps.

    Args:
        content: of `run.json`; what it says of data and quality is told, no name of a file.
        fingerprint, vocabulary: of the run, of its tokens.
        keeps: a paragraph: what of its texts is where the card lies.
        more: facts that only this place has.
    """
    facts = {
        "run": f"{fingerprint}, finished {finished or 'at an unknown time'}",
        "tokens": f"{VOCAB_SIZE}, fingerprint {vocabulary}",
        "text encoder": f"{encoder.name}, {encoder.dim} numbers a text, up to {encoder.max_length} tokens",
        "model": f"transformer blocks from {EMBEDDING_DIM} to {LATENT_DIM} numbers, then the head",
        "teacher": f"closeness of text and token in the encoder, the token put as {token_template!r}",
        **dict(_training(content)),
        **more,
    }
    says = (
        "What it says: how well each token fits the moment of a text, in the eyes of that teacher. The"
        " sigmoid of a logit is that token's own figure; the figures are no distribution and do not add up"
        " to 1."
    )
    purpose = (
        "What it is for: to choose tokens for the prompt of a language model. It does not measure anybody's"
        " personality or health, and must not decide about people. It knows the languages of its encoder and"
        " of its training texts, and was not examined for how it treats groups of people."
    )
    table = "\n".join(
        ("| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in facts.items()))
    )
    return "\n\n".join(("# Model card", table, says, purpose, keeps)) + "\n"


def encoder_licence(encoder: EncoderIdentity, folder: Path | None) -> str:
    """Under which licence the weights are that the model was trained with."""
    if encoder.weights_sha256 == MINILM_SHA256:
        return f"Apache License, Version 2.0 ({MINILM_REPOSITORY})"
    if folder is None:
        return "the encoder is hosted, and the terms are its host's"
    if said := said_licence(folder):
        return f"{said}, says the model card that came with it"
    return "nothing in its folder says which: find out before you ship it"


def said_licence(folder: Path) -> str | None:
    """What the front of a folder's README.md gives as `license`."""
    card = folder / "README.md"
    text = read_bounded(card, _MAX_BYTES, "README.md").decode(errors="replace") if card.is_file() else ""
    front = re.match(r"---\n(.*?)\n---\n", text, re.S)
    said = re.search(r"^license: *([\w.+-]{1,60})$", front[1], re.M) if front else None
    return said[1] if said else None


def command(config: PretrainConfig) -> str:
    """With all that is not as by default, and words in the place of paths."""
    words = ["pt", "pretrain", "--data", "DATA", "--output-dir", "RUN"]
    for one, skipped in ((config.data, ("source",)), (config, ("data", *_HOW))):
        for field in dataclasses.fields(one):
            value, option = getattr(one, field.name), f"--{field.name.replace('_', '-')}"
            if field.name in skipped or value == field.default:
                continue
            if isinstance(value, Path) or (field.name == "encoder" and value not in ENCODERS):
                value = field.name.upper()
            words += [option] if value is True else [option, "none" if value is None else str(value)]
    return shlex.join(words)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _training(content: object) -> Iterator[tuple[str, str]]:
    """What the run says of data and quality; a run of a test or an earlier version may say nothing."""
    record = content if isinstance(content, dict) else {}
    data, quality, kept = record.get("data"), record.get("quality"), record.get("kept")
    if isinstance(data, dict) and isinstance(data.get("train_texts"), int):
        held = f" and {data['val_texts']} held out" if isinstance(data.get("val_texts"), int) else ""
        yield (
            "training texts",
            f"{data['train_texts']}{held}, fingerprint {data.get('fingerprint', 'unknown')}",
        )
        if isinstance(labelled := data.get("labelled_texts"), int) and labelled:
            yield "texts with labels", f"{labelled}"
    if isinstance(kept, dict) and isinstance(kept.get("epoch"), int):
        yield "epochs", f"{kept.get('of')}, and the state after epoch {kept['epoch']} is kept"
    names = {
        "val_loss": "loss", "val_loss_floor": "floor of the loss", "val_top8_recall": "top-8 recall",
        "val_ndcg8": "NDCG@8",
    }  # fmt: skip
    if isinstance(quality, dict):
        for key, name in names.items():
            if isinstance(quality.get(key), float):
                yield f"{name}, on held-out texts", f"{quality[key]:.6g}"
