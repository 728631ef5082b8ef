"""Part of bench_lm.py: how fast a language model trains, beside Hugging Face's Trainer and beside AdamW."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from personality_common.runs.device import fast_dtype
from personality_common.terminal.progress import SILENT
from pretrain.lm.config import SIZES, ModelConfig, OptimizerName, TrainConfig
from pretrain.lm.model import Decoder
from pretrain.lm.optimizer import Optimizers
from pretrain.lm.packing import WEIGHT_UNIT
from pretrain.lm.pipeline import train_lm
from pretrain.lm.training import CLIP, batch_loss, target_weights

BATCH = 8
STEPS, SKIPPED = 24, 4
ADAMW_RATES = (7.5e-4, 1.5e-3, 3e-3, 6e-3, 1e-2)
ADAMW_BUDGETS = (1.0, 1.5, 2.0)
"""Of the tokens that Muon has."""


def random_rows(config: ModelConfig, count: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """(count, 4, T) of one document each, every place a target."""
    ids = np.random.default_rng(0).integers(20, config.vocab_size, (count, config.context_length + 1))
    same = np.zeros((count, config.context_length), np.int64)
    return np.stack((ids[:, :-1], ids[:, 1:], same, same + WEIGHT_UNIT), 1).astype(np.uint16)


def our_step(config: ModelConfig, optimizer: OptimizerName, device: str = "cpu") -> Callable[[], None]:
    """A step of `pt lm train` on random tokens: forward, backward, clipping, optimizers."""
    model = Decoder(config).to(device)
    settings = TrainConfig(Path(), Path(), Path(), optimizer=optimizer, batch_size=BATCH)
    optimizers = Optimizers(model, settings)
    rows = random_rows(config, BATCH)
    weights = torch.from_numpy(target_weights(rows)).to(device)

    def step() -> None:
        loss: Tensor = (batch_loss(model, rows, device) * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizers.step(0.1)

    return step


def matrix_rate() -> float:
    """FLOPs a second of products (1024, 1024) @ (1024, 1024) in the type that training multiplies in."""
    a, b = (torch.randn(1024, 1024).to(fast_dtype("cpu")) for _ in range(2))
    seconds = []
    for _ in range(12):
        started = time.process_time()
        a @ b
        seconds.append(time.process_time() - started)
    return float(2 * 1024**3 / statistics.median(seconds))


def flops_a_token(config: ModelConfig) -> float:
    """Of a step: 6 per weight of a matrix, and attention over half of the context."""
    d, length = config.embedding_size, config.context_length
    matrices = config.layers * (4 * d * d + 2 * d * config.feed_forward_size) + config.vocab_size * d
    return 6.0 * matrices + 6.0 * config.layers * d * length


def against_trainer(scratch: Path) -> dict[str, Any]:
    """Tokens per CPU second of Hugging Face's Trainer and ours, the standard size, a step of each in turn."""
    from transformers import Starcoder2Config, Starcoder2ForCausalLM, Trainer, TrainerCallback
    from transformers.training_args import TrainingArguments

    config = SIZES["standard"]
    steps: dict[str, Callable[[], None]] = {name: our_step(config, name) for name in ("muon", "adamw")}
    seconds: dict[str, list[float]] = {name: [] for name in (*steps, "trainer")}

    class Alternating(TrainerCallback):  # type: ignore[misc]
        started = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds["trainer"].append(time.process_time() - self.started)
            for name, step in steps.items():
                started = time.process_time()
                step()
                seconds[name].append(time.process_time() - started)

    model = Starcoder2ForCausalLM(
        Starcoder2Config(
            vocab_size=config.vocab_size, hidden_size=config.embedding_size, num_hidden_layers=config.layers,
            num_attention_heads=config.heads, num_key_value_heads=config.heads,
            intermediate_size=config.feed_forward_size, max_position_embeddings=config.context_length,
            residual_dropout=0.0, embedding_dropout=0.0, attention_dropout=0.0, use_cache=False,
        )
    )  # fmt: skip
    ids = np.random.default_rng(0).integers(20, config.vocab_size, (BATCH * STEPS, config.context_length))
    rows = [{"input_ids": torch.from_numpy(row), "labels": torch.from_numpy(row)} for row in ids]
    arguments = TrainingArguments(
        str(scratch), per_device_train_batch_size=BATCH, max_steps=STEPS, bf16=True, use_cpu=True,
        report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, learning_rate=1e-4,
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows, callbacks=[Alternating()]).train()
    tokens = BATCH * config.context_length
    rates = {name: tokens / statistics.median(some[SKIPPED:]) for name, some in seconds.items()}
    share = rates["muon"] * flops_a_token(config) / matrix_rate()
    return {
        "parameters": {"trainer": model.num_parameters(), "ours": config.parameters},
        "tokens per CPU s": {name: round(rate) for name, rate in rates.items()},
        "share of the matrix rate": round(share, 3),
        "ratio": rates["muon"] / rates["trainer"],
    }


def muon_against_adamw(data: Path, tokenizer: Path, scratch: Path, tokens: float) -> dict[str, Any]:
    """CPU time that AdamW needs to the held-out loss that Muon ends with, from weights of chance alone.

    AdamW has the best of several rates, chosen at Muon's budget; larger budgets are runs of their own, whose
    rates fall at their own ends. Between budgets the loss is taken for a line over the time's logarithm.
    """
    rows: list[dict[str, Any]] = []

    def trained(optimizer: OptimizerName, rate: float, budget: float) -> dict[str, Any]:
        out = scratch / f"{optimizer}-{rate}-{budget}"
        config = TrainConfig(
            data, tokenizer, out, tokens=tokens * budget, batch_size=4, optimizer=optimizer, lr=rate,
            evaluate_every=10**6,
        )  # fmt: skip
        started = time.process_time()
        loss = train_lm(dataclasses.replace(config, keep="last"), SILENT).history[-1]["val_loss"]
        row = {
            "optimizer": optimizer, "rate": rate, "tokens": tokens * budget,
            "CPU s": round(time.process_time() - started, 1), "held-out loss": round(loss, 4),
        }  # fmt: skip
        rows.append(row)
        return row

    muon = trained("muon", 6e-3, 1.0)
    tried = [trained("adamw", rate, 1.0) for rate in ADAMW_RATES]
    best = min(tried, key=lambda row: float(row["held-out loss"]))
    curve = [best, *(trained("adamw", float(best["rate"]), budget) for budget in ADAMW_BUDGETS[1:])]
    seconds, reached = time_to(float(muon["held-out loss"]), curve)
    return {"rows": rows, "AdamW reaches it": reached, "ratio": seconds / float(muon["CPU s"])}


def time_to(loss: float, curve: Sequence[dict[str, Any]]) -> tuple[float, bool]:
    """CPU seconds to a loss, and whether it is reached; if not, the last run's seconds."""
    losses = [float(row["held-out loss"]) for row in curve]
    seconds = [float(row["CPU s"]) for row in curve]
    if losses[0] <= loss:
        return seconds[0], True
    for i in range(1, len(curve)):
        if losses[i] <= loss:
            share = (losses[i - 1] - loss) / (losses[i - 1] - losses[i])
            ends = math.log(seconds[i - 1]), math.log(seconds[i])
            return math.exp(ends[0] + share * (ends[1] - ends[0])), True
    return seconds[-1], False
