"""What `pt pretrain` leaves behind, opened and verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from personality_common.contract import (
    MINILM_DIM,
    MODEL_WEIGHTS_FILE,
    PROJECTOR_WEIGHTS_FILE,
    RUN_FILE,
    TOKENS_FILE,
)
from personality_common.errors import DataError
from personality_common.runs.record import Record, read_record
from personality_common.terminal.progress import Reporter
from personality_common.text.consent import require_consent, tell
from personality_common.text.encoder import load_encoder
from personality_common.text.identity import Encoder, EncoderIdentity, require_same_encoder
from personality_common.vocabulary import Vocabulary, load_vocabulary, require_same_vocabulary
from pretrain.personality.config import PLAIN_TEMPLATE, is_template
from pretrain.personality.head_file import head_metadata, read_head_file
from pretrain.personality.model import EmbeddingProjector, PersonalityModel
from pretrain.personality.reference import load_sample

TRAINER: Final = "personality"


@dataclass(frozen=True)
class Run:
    """A finished run of the personality model.

    Attributes:
        record: what every run says of itself.
        vocabulary: in output order.
        encoder: identity of the encoder that it was trained with.
        encoder_option: how `load_encoder` is asked for it.
        token_template: how the teacher was given its tokens.
        model: on the CPU, in eval mode.
        projector: the same; None for an encoder whose base embeddings are embeddings.
        reference: (N, d) base embeddings of a sample of its training texts; None for a run of an earlier
            version.
    """

    record: Record
    vocabulary: Vocabulary
    encoder: EncoderIdentity
    encoder_option: str
    token_template: str
    model: PersonalityModel
    projector: EmbeddingProjector | None
    reference: Tensor | None

    @property
    def path(self) -> Path:
        return self.record.run

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of its tensors, vocabulary and encoder."""
        return self.record.fingerprint(self.vocabulary.fingerprint, self.encoder.fingerprint)


def load_run(path: Path, head: Path | None = None) -> Run:
    """Open a run; every tensor must have the fingerprint that `run.json` names.

    Args:
        head: a head that `pt grpo` made from it, in place of its own; the fingerprint stays the run's.

    Raises:
        DataError: no finished run, or a file of it is damaged.
        MismatchError: its files do not belong together, or it is another trainer's.
    """
    record = read_record(path, TRAINER)
    try:
        encoder = EncoderIdentity(**record.content["encoder"]["identity"])
        option = str(record.content["encoder"]["option"])
        template = record.content.get("teacher", {"token_template": PLAIN_TEMPLATE})["token_template"]
        vocabulary_fingerprint = str(record.content["vocabulary"]["fingerprint"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path / RUN_FILE}: not the record of a run: {error!r:.200}") from None
    if not is_template(template):
        raise DataError(f"{path / RUN_FILE}: no token_template with one {PLAIN_TEMPLATE}: {template!r:.60}")
    vocabulary = load_vocabulary(path / TOKENS_FILE)
    require_same_vocabulary(vocabulary_fingerprint, vocabulary.fingerprint, str(path / TOKENS_FILE))
    model = PersonalityModel()
    record.load_into(model, MODEL_WEIGHTS_FILE)
    projector = None
    if encoder.dim == MINILM_DIM:
        projector = EmbeddingProjector()
        record.load_into(projector, PROJECTOR_WEIGHTS_FILE)
        projector.eval()
    sample = load_sample(path, encoder.dim)
    run = Run(record, vocabulary, encoder, option, template, model.eval(), projector, sample)
    if head is not None:
        own = read_head_file(head, head_metadata(run.fingerprint, vocabulary.fingerprint))
        with torch.no_grad():
            model.projection.weight.copy_(own.weight)
            model.output_bias.copy_(own.bias)
    return run


def load_run_encoder(
    run: Run, device: str, dtype: torch.dtype, reporter: Reporter, allow_remote: bool = False
) -> Encoder:
    """The encoder that a run was trained with; warns where texts will leave this machine.

    Args:
        allow_remote: also for a run that was not made here.

    Raises:
        ToolkitError: it cannot be loaded here; or it is hosted, and that was not allowed.
        MismatchError: what is here under its name is another, and was not loaded.
    """
    require_consent(run.fingerprint, run.encoder, run.path, allow_remote)
    encoder = load_encoder(run.encoder_option, device, dtype, run.encoder)
    require_same_encoder(run.encoder, encoder.identity, str(run.path))
    tell(encoder, reporter)
    return encoder
