"""`pt grpo`: one update from a feedback file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from device_sim.heads.heads import HEADS
from device_sim.heads.shipped import PART, open_shipped, shipped_reference
from device_sim.runtimes.opening import open_runtime
from device_sim.simulate.config import TuneConfig
from device_sim.simulate.texts import Embedder, feedback_latents
from grpo.feedback import Interaction, read_feedback
from grpo.head import Head
from grpo.learners import make_learner
from grpo.reference import Reference
from grpo.tune import TuneResult
from personality_common.contract import HEAD_BIAS, HEAD_WEIGHT, MANIFEST_FILE
from personality_common.errors import ToolkitError
from personality_common.files.tensors import save_tensors
from personality_common.terminal.progress import SILENT, Reporter
from pretrain.personality.head_file import head_metadata, read_head_file
from pretrain.personality.run import Run, load_run, load_run_encoder


def tune_from_file(config: TuneConfig, reporter: Reporter = SILENT) -> TuneResult:
    """Read feedback, update the head once, and write it.

    Raises:
        DataError: model or feedback are malformed; nothing is written.
        MismatchError: the feedback is of another vocabulary, or the head to start from of another run.
        ToolkitError: the encoder is not usable here, or the update did nothing.
    """
    if (config.model / MANIFEST_FILE).is_file():
        bundle = open_shipped(config.model)
        tokens, base_dim = bundle.vocabulary.tokens, bundle.encoder.dim
        feedback = read_feedback(config.feedback, tokens, base_dim=base_dim, rewards=config.event_rewards)
        runtime = open_runtime("mil", bundle.package(PART), bundle.places(PART))
        latents = feedback_latents(
            feedback.interactions,
            Embedder(bundle, config.run, reporter, config.allow_remote_encoder),
            runtime,
        )
        reference = shipped_reference(bundle, config.grpo)
        run_fingerprint, vocabulary = bundle.run_fingerprint, bundle.vocabulary.fingerprint
    else:
        run = load_run(config.model)
        feedback = read_feedback(
            config.feedback,
            run.vocabulary.tokens,
            base_dim=run.encoder.dim,
            rewards=config.event_rewards,
        )
        model = run.model
        head = Head(model.projection.weight.detach().clone(), model.output_bias.detach().clone())
        latents = _latents(run, feedback.interactions, reporter, config.allow_remote_encoder)
        reference = Reference(_sample(run), head, config.grpo)
        run_fingerprint, vocabulary = run.fingerprint, run.vocabulary.fingerprint
    learner = make_learner(config.learner, reference)
    belongs = head_metadata(run_fingerprint, vocabulary)
    kept = learner.start()
    if config.start is not None:
        earlier = Head(*read_head_file(config.start, belongs)[:2])
        kept = kept._replace(head=earlier, state=earlier)
    _, result = learner.night(latents, feedback.groups(), kept)
    metadata = belongs | {
        "feedback_fingerprint": feedback.fingerprint,
        "start_fingerprint": HEADS.fingerprint(kept.head),
        "reward_mean": json.dumps(result.night.reward_mean),
        "settings": json.dumps({"learner": config.learner, "rewards": config.rewards, **asdict(config.grpo)}),
    }
    save_tensors(Path(config.out), {HEAD_WEIGHT: result.head.weight, HEAD_BIAS: result.head.bias}, metadata)
    return result


@torch.inference_mode()
def _sample(run: Run) -> Tensor:
    """(R, 512): latents of the run's sample of texts, as a bundle has them."""
    if run.reference is None:
        raise ToolkitError(
            f"{run.path}: must have a sample of its texts on which budgets are measured, has none; train it"
            " again with this version"
        )
    embeddings = run.reference if run.projector is None else run.projector(run.reference)
    return run.model.backbone(embeddings).half().float().clone()


@torch.inference_mode()
def _latents(run: Run, interactions: Sequence[Interaction], reporter: Reporter, allow_remote: bool) -> Tensor:
    """(N, 512), through the run's own encoder, projector and backbone in PyTorch."""
    texts = [x.text for x in interactions if x.text is not None]
    base = np.empty((0, run.encoder.dim), np.float32)
    if texts:
        base = load_run_encoder(run, "cpu", torch.float32, reporter, allow_remote).encode(texts)
    embedded = iter(torch.from_numpy(base))
    rows = []
    for interaction in interactions:
        if interaction.latent is not None:
            rows.append(interaction.latent)
            continue
        given = next(embedded) if interaction.base_embedding is None else interaction.base_embedding
        embedding = given[None] if run.projector is None else run.projector(given[None])
        rows.append(run.model.backbone(embedding)[0])
    return torch.stack(rows).clone()
