"""Steps that processes take alone: against replicas that are played in turn, and taken up in the middle."""

import multiprocessing
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from personality_common.errors import ConfigError
from personality_common.runs.processes import join_processes
from personality_common.runs.schedule import cosine
from personality_common.terminal.progress import SILENT
from pretrain.data.conversations import DataConfig
from pretrain.data.spread import Spread
from pretrain.personality import training
from pretrain.personality.config import PretrainConfig
from pretrain.personality.student import Student
from pretrain.personality.targets import soft_targets
from pretrain.personality.training import TrainingData, train

TEXTS, BATCH, LOCAL, EPOCHS, LR = 49, 16, 3, 2, 1e-3
"""Of the last batch, one text, process 1 has none; 3 divides neither 4 steps nor 8."""
PATIENCE = 120


def embeddings() -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    texts, tokens = (F.normalize(torch.randn(n, 384, generator=draws), dim=-1) for n in (TEXTS + 8, 325))
    return texts, tokens


def fresh() -> Student:
    torch.manual_seed(0)
    return Student(384, 0.0)


def work(rank: int, port: int, config: PretrainConfig) -> None:
    """What torchrun would start."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    texts, tokens = embeddings()
    rows = np.arange(len(texts))
    student = fresh()
    with join_processes() as processes:
        # Process 0 holds the rows of 5 texts, process 1 those of all others.
        train_rows, val_rows = (np.split(part, [5])[rank] for part in (rows[:TEXTS], rows[TEXTS:]))
        data = TrainingData(
            lambda chosen: texts.numpy()[chosen],
            Spread(train_rows, processes),
            Spread(val_rows, processes),
            tokens,
        )
        if rank:
            with torch.no_grad():  # as where another machine rounds otherwise
                student.model.output_bias.add_(1)
        train(student, data, config, "cpu", config.output_dir, SILENT, processes)
    save_file(student.state_dict(), config.output_dir / f"rank{rank}.weights")


def together(config: PretrainConfig) -> list[dict[str, Tensor]]:
    """The weights that each of two processes ends with."""
    config.output_dir.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    jobs = [multiprocessing.get_context("fork").Process(target=work, args=(r, port, config)) for r in (0, 1)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(PATIENCE)
    assert [job.exitcode for job in jobs] == [0, 0]
    return [load_file(config.output_dir / f"rank{rank}.weights") for rank in (0, 1)]


def in_turn() -> dict[str, Tensor]:
    """The same, of replicas in this process, written out."""
    texts, tokens = embeddings()
    replicas = [fresh(), fresh()]
    trained = [[p for p in one.parameters() if p.requires_grad] for one in replicas]
    optimizers = [torch.optim.AdamW(own, lr=LR, eps=1e-3, weight_decay=1e-2) for own in trained]

    @torch.no_grad()
    def mean(pairs: list[tuple[Tensor, Tensor]]) -> None:
        for ours, theirs in pairs:
            middle = (ours + theirs) / 2
            ours.copy_(middle)
            theirs.copy_(middle)

    step = 0
    for epoch in range(1, EPOCHS + 1):
        order = np.random.default_rng(np.random.SeedSequence((0, epoch))).permutation(TEXTS)
        for first in range(0, TEXTS, BATCH):
            batch = order[first : first + BATCH]
            half = (len(batch) + 1) // 2
            for student, own, optimizer, rows in zip(
                replicas, trained, optimizers, (batch[:half], batch[half:]), strict=True
            ):
                base = texts[rows]
                total = F.binary_cross_entropy_with_logits(
                    student(base), soft_targets(base, tokens), reduction="sum"
                )
                optimizer.zero_grad()
                (total / 325 / max(1, len(rows))).backward()
                torch.nn.utils.clip_grad_norm_(own, 1.0)
                optimizer.param_groups[0]["lr"] = cosine(step, 8, LR, 1e-6)
                optimizer.step()
            step += 1
            if step % LOCAL == 0:
                mean(list(zip(*trained, strict=True)))
        mean(list(zip(*trained, strict=True)))
        for name in ("exp_avg", "exp_avg_sq"):
            both = [[o.state[p][name] for p in own] for o, own in zip(optimizers, trained, strict=True)]
            mean(list(zip(*both, strict=True)))
    return replicas[0].state_dict()


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_do_what_replicas_in_turn_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "fast_dtype", lambda device: torch.float32)
    config = PretrainConfig(
        DataConfig("-"), tmp_path / "whole", epochs=EPOCHS, batch_size=BATCH, local_steps=LOCAL, lr=LR,
        dropout=0.0, keep="last", device="cpu",
    )  # fmt: skip
    ours, theirs = together(config)
    expected = in_turn()
    assert all(torch.equal(ours[name], theirs[name]) for name in expected)
    apart = max(float((ours[name] - expected[name]).abs().max()) for name in expected)
    moved = max(float((ours[name] - tensor).abs().max()) for name, tensor in fresh().state_dict().items())
    assert apart < 2e-6 < 1e-3 < moved, (apart, moved)

    # Killed after the first epoch: both go on from the leader's checkpoint, to the same bits.
    again = replace(config, output_dir=tmp_path / "again", resume=True)
    again.output_dir.mkdir()
    for path in config.output_dir.glob("epoch_1_*"):
        (again.output_dir / path.name).write_bytes(path.read_bytes())
    for resumed in together(again):
        assert all(torch.equal(resumed[name], ours[name]) for name in expected)


def test_at_least_one_step() -> None:
    with pytest.raises(ConfigError, match="--local-steps must be 1 or more, got 0"):
        PretrainConfig(DataConfig("-"), Path("-"), local_steps=0)
