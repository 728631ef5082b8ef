"""Top tokens of texts, from a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from personality_common.contract import TOP_K, VOCAB_SIZE
from personality_common.errors import ConfigError, ToolkitError
from personality_common.printable import is_unicode
from personality_common.terminal.progress import SILENT, Reporter
from personality_common.text.identity import Encoder
from personality_common.text.sentence import SentenceEncoder
from pretrain.personality.run import Run, load_run_encoder


@dataclass(frozen=True)
class Prediction:
    """A text's tokens, the likeliest first, with their activation probabilities; none of a blank text."""

    text: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]


@torch.inference_mode()
def predict(
    run: Run,
    texts: Sequence[str],
    top_k: int = TOP_K,
    reporter: Reporter = SILENT,
    allow_remote: bool = False,
) -> list[Prediction]:
    """Encode texts with the run's own encoder, in float32, and rank the tokens.

    Args:
        run: see `pretrain.personality.run.load_run`.
        texts: none blank.
        top_k: tokens per text, 1 to 325.
        reporter: hears where texts leave this machine.
        allow_remote: see `load_run_encoder`.

    Raises:
        ConfigError: `top_k` out of range.
        ToolkitError: a blank text, or the encoder cannot be loaded.
        MismatchError: the encoder that is here is not the run's.
    """
    if not 1 <= top_k <= VOCAB_SIZE:
        raise ConfigError(f"--top-k must be between 1 and {VOCAB_SIZE}, got {top_k}")
    blank = [i for i, text in enumerate(texts, start=1) if not text.strip()]
    if blank:
        raise ToolkitError(f"every text must have a character that is not a space; text {blank[0]} has none")
    for i, text in enumerate(texts, start=1):
        if not is_unicode(text):
            raise ToolkitError(f"every text must be Unicode, text {i} has half a character; give it as UTF-8")
    encoder = load_run_encoder(run, "cpu", torch.float32, reporter, allow_remote)
    embedding = torch.from_numpy(encoder.encode([text.strip() for text in texts]))
    if run.projector is not None:
        embedding = run.projector(embedding)
    _tell_cut(encoder, texts, reporter)
    top = torch.sigmoid(run.model.head(run.model.backbone(embedding))).topk(top_k)
    return [
        Prediction(text, tuple(run.vocabulary.tokens[i] for i in indices), tuple(probabilities))
        for text, indices, probabilities in zip(texts, top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _tell_cut(encoder: Encoder, texts: Sequence[str], reporter: Reporter) -> None:
    """Say which texts the encoder does not read to their end."""
    most = encoder.identity.max_length
    # A token has a character or more.
    long = [i for i, text in enumerate(texts, start=1) if len(text) > most - 2]
    if not long or not isinstance(encoder, SentenceEncoder):
        return
    ids = encoder.token_ids([texts[i - 1] for i in long])
    if cut := [i for i, row in zip(long, ids, strict=True) if len(row) >= most]:
        reporter.warn(
            f"{len(cut)} of {len(texts)} texts reach the encoder's {most} tokens, the first is text {cut[0]}:"
            " what comes after is not read"
        )
