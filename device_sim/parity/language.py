"""`pt parity` of a language model: PyTorch, transformers, llama.cpp and MLX, file by file."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from device_sim.parity.config import ParityConfig
from device_sim.parity.language_files import MODEL, file_checks
from device_sim.parity.report import Comparison, Report, RuntimeStatus, pair
from device_sim.parity.verdict import GOLDEN
from personality_common.errors import ConfigError, MismatchError, ToolkitError
from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.distances import measure
from personality_common.files.inside import inside
from personality_common.terminal.progress import Reporter
from pretrain.lm.bundle.folder import Folder, GoldenRow, open_folder, read_gguf_weights
from pretrain.lm.bundle.gguf_model import read_model
from pretrain.lm.bundle.manifest import GOLDEN_FILE, HUGGING_FACE_DIR, GgufEntry, gguf_file
from pretrain.lm.llama import Llama
from pretrain.lm.model import Decoder, FeedForward
from pretrain.lm.run import load_run
from pretrain.lm.tokenizer import Tokenizer, load_tokenizer

Rows = NDArray[np.float32]
FEATURE: Final = "log-probabilities"
TORCH, TRANSFORMERS, LLAMA, MLX = "torch", "transformers", "llama", "mlx"
OWN_WEIGHTS: Final = "torch, the file's weights"
TABLE_GELU: Final = "torch, GELU as ggml"
LIMITS: Final = {
    "f32": 3e-3, "f16": 3e-2, "bf16": 0.1, "q8_0": 0.4, "q5_0": 0.4, "q4_0": 0.4, "q4_k_m": 0.4, "q6_k": 0.4
}  # fmt: skip
"""In nats, against PyTorch with ggml's GELU, which is a table in float16. In other types than F32, ggml also
rounds what it multiplies with, to that type or to 8 bits: up to 0.01 and 0.2 in a trained model. What
quantization loses is not in it, since quantized files are compared with their own weights."""
PLAIN_LIMIT: Final = 1e-2
"""F32 against PyTorch as it is: the table costs up to 0.003."""
GOLDEN_LIMIT: Final = 1e-4
HUGGING_FACE_LIMITS: Final = {TRANSFORMERS: 1e-3, MLX: 1e-2}
"""mlx-lm has another GELU (erf)."""
STRINGS: Final = (
    *(
        " don't  we'LL\n\n\tx",
        "naïve café e\u0301 日本語 \U0001f642\u200d",
        "12345 3.14 ½²",
        "<|end|><|user|></s>",
    ),
    *("\x00\u2028\ufeff", "def f(x):\r\n    return {'a': [1, 2]}", "ไทย עברית", " " * 20 + "x"),
)


@dataclass(frozen=True)
class _Compared:
    package: str
    value: str
    reference: str
    limit: float
    ours: Rows
    theirs: Rows


class TableGelu(FeedForward):
    """GELU as ggml looks it up on CPUs: input and output in float16; 0 below -10, above 10 the input."""

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.up(x)
        narrow = F.gelu(hidden.half().float(), approximate="tanh").half().float()
        active = hidden.where(hidden >= 10, narrow.where(hidden > -10, 0.0))
        y: Tensor = self.down(active)
        return y


def with_table_gelu(model: Decoder) -> Decoder:
    """A copy that computes GELU as llama.cpp does."""
    copied = Decoder(model.config).eval()
    for layer in copied.layers:
        layer.feed_forward = TableGelu(model.config)
    copied.load_state_dict(model.state_dict())
    return copied


def language_parity(config: ParityConfig, reporter: Reporter) -> Report:
    """Check a folder of `pt lm export`, and compare what computes it.

    Raises:
        ConfigError: an option for the other families.
        DataError: no such folder, or a malformed manifest; no run.
        MismatchError: the run is not the folder's.
        ToolkitError: a runtime that was asked for is not available.
    """
    if config.data is not None or config.tolerances:
        raise ConfigError("--data and --tolerance are for the other families; a language model needs neither")
    folder = open_folder(config.bundle)
    golden = folder.golden()
    model, tokenizer, where = _reference(config, folder)
    statuses = tuple(_statuses(config, folder, model))
    chosen = {status.name for status in statuses if status.unavailable is None}
    checks = list(file_checks(folder, model, tokenizer))
    broken = {check.package for check in checks if check.failed and check.id == MODEL}
    compared: list[_Compared] = []
    prompts = _prompts(golden)
    theirs = None if model is None or TORCH not in chosen else _torch(model, prompts)
    if theirs is not None and model is not None:
        checks.append(_golden_check(model, golden))
    for name, limit in HUGGING_FACE_LIMITS.items():
        if name in chosen and theirs is not None and HUGGING_FACE_DIR not in broken:
            reporter.say(f"{name}: comparing")
            rows = _hugging_face(name, folder.path / HUGGING_FACE_DIR, prompts, checks)
            if rows is not None:
                compared.append(_Compared(HUGGING_FACE_DIR, name, TORCH, limit, rows, theirs))
    for entry in folder.manifest.gguf if LLAMA in chosen else ():
        if entry.file not in broken:
            reporter.say(f"llama.cpp, {entry.file}: comparing")
            compared += _llama(folder, entry, prompts, theirs, tokenizer, golden, model, checks)
    for c in compared:
        furthest = float(np.abs(c.ours - c.theirs).max())
        checks.append(
            within(
                f"{FEATURE}.max-abs", "log-probabilities", furthest, "<=", c.limit,
                unit="nats", package=c.package, runtimes=pair(c.value, c.reference),
            )
        )  # fmt: skip
    return Report(
        bundle=str(config.bundle),
        run_fingerprint=folder.manifest.run.fingerprint,
        settings={
            "family": folder.manifest.family, "formats": ", ".join(folder.manifest.settings.formats),
            "quantized": ", ".join(folder.manifest.settings.quantize),
        },
        reference=where,
        texts=None,
        runtimes=statuses,
        checks=tuple(checks),
        comparisons=tuple(
            Comparison(
                c.package, c.value, c.reference, "prompts", False, FEATURE,
                measure(c.ours, c.theirs, ranked=False),
            )
            for c in compared
        ),
        depth={},
        examples=(),
    )  # fmt: skip


def _reference(config: ParityConfig, folder: Folder) -> tuple[Decoder | None, Tokenizer | None, str]:
    """PyTorch with the run's weights, or with those that the folder has in float32; and the tokenizer."""
    if config.run is not None:
        run = load_run(config.run)
        if run.weights_sha256 != (stated := folder.manifest.run.fingerprint):
            raise MismatchError(
                f"--run must be the run that {config.bundle} was made from, fingerprint {stated[:12]}…; "
                f"{config.run} is {run.weights_sha256[:12]}…"
            )
        return run.model, run.tokenizer, "run"
    if folder.manifest.hugging_face:
        inner = folder.path / HUGGING_FACE_DIR
        inside(folder.path, f"{HUGGING_FACE_DIR}/tokenizer.json")
        return folder.hugging_face(), load_tokenizer(inner), "packages"
    if any(entry.quantization == "f32" for entry in folder.manifest.gguf):
        file, shape = read_model(inside(folder.path, gguf_file("f32")))
        return read_gguf_weights(file, shape), None, "packages"
    return None, None, "packages"


def _statuses(config: ParityConfig, folder: Folder, model: Decoder | None) -> Iterator[RuntimeStatus]:
    reasons = {
        TORCH: None if model is not None else "the folder has no weights in float32; add --run",
        TRANSFORMERS: None if folder.manifest.hugging_face else "the folder has no Hugging Face folder",
        MLX: None if folder.manifest.hugging_face else "the folder has no Hugging Face folder",
        LLAMA: None if folder.manifest.gguf else "the folder has no GGUF file",
    }
    what = {
        TORCH: f"PyTorch with {'the run' if config.run is not None else 'the folder'}'s weights",
        TRANSFORMERS: "transformers' Starcoder2ForCausalLM, float32",
        LLAMA: "llama.cpp, keys and values in float32",
        MLX: "mlx-lm, float32",
    }
    if reasons[MLX] is None and importlib.util.find_spec("mlx_lm") is None:
        reasons[MLX] = "mlx-lm is not installed; pip install 'mlx[cpu]' mlx-lm, or mlx-lm alone on a Mac"
    for name, missing in reasons.items():
        asked = config.runtimes is not None and name in config.runtimes
        if asked and missing is not None:
            raise ToolkitError(f"--runtimes {name} is not available here: {missing}")
        skipped = "not asked for (--runtimes)" if config.runtimes is not None and not asked else None
        yield RuntimeStatus(name, what[name], missing or skipped)


def _prompts(golden: Sequence[GoldenRow]) -> list[list[int]]:
    """Starts of the golden rows: of each its first token, half of it, and all of it."""
    return [list(row.ids[:n]) for row in golden for n in sorted({1, max(1, len(row.ids) // 2), len(row.ids)})]


@torch.inference_mode()
def _torch(model: Any, prompts: Sequence[Sequence[int]]) -> Rows:
    """(prompts, V), of the token after each."""
    found = [model(torch.tensor([list(ids)])) for ids in prompts]
    logits = [getattr(out, "logits", out)[0, -1].float() for out in found]
    rows: Rows = torch.log_softmax(torch.stack(logits), -1).numpy()
    return rows


def _hugging_face(
    name: str, path: Path, prompts: Sequence[Sequence[int]], checks: list[Check]
) -> Rows | None:
    """What transformers or mlx-lm makes of the folder; None, and a check, where it does not take it."""
    try:
        return _transformers(path, prompts) if name == TRANSFORMERS else _mlx(path, prompts)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        detail = f"{name} must take the folder, does not: {' '.join(str(error).split())[:300]}"
        checks.append(claim("loads", "loads", False, detail, package=path.name, runtimes=name))
        return None


def _transformers(path: Path, prompts: Sequence[Sequence[int]]) -> Rows:
    from transformers import Starcoder2ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    # The class is named: a folder is not asked which code it wants to run. No pickles, no network.
    model = Starcoder2ForCausalLM.from_pretrained(
        path, local_files_only=True, use_safetensors=True, attn_implementation="eager"
    )
    return _torch(model.eval(), prompts)


def _mlx(path: Path, prompts: Sequence[Sequence[int]]) -> Rows:
    mx = importlib.import_module("mlx.core")
    model, _ = importlib.import_module("mlx_lm.utils").load_model(path)
    last = [np.array(model(mx.array([list(ids)]))[0, -1].astype(mx.float32)) for ids in prompts]
    rows: Rows = torch.log_softmax(torch.from_numpy(np.stack(last)), -1).numpy()
    return rows


def _golden_check(model: Decoder, golden: Sequence[GoldenRow]) -> Check:
    rows = _torch(model, [row.ids for row in golden])
    apart = [
        np.abs(own[list(row.top_ids)] - np.array(row.top_log_probabilities)).max()
        for row, own in zip(golden, rows, strict=True)
    ]
    return within(
        f"{FEATURE}.golden", "log-probabilities of the golden rows", float(max(apart, default=np.nan)), "<=",
        GOLDEN_LIMIT, unit="nats", package=GOLDEN_FILE, runtimes=pair(TORCH, GOLDEN),
    )  # fmt: skip


def _llama(
    folder: Folder,
    entry: GgufEntry,
    prompts: Sequence[Sequence[int]],
    theirs: Rows | None,
    tokenizer: Tokenizer | None,
    golden: Sequence[GoldenRow],
    model: Decoder | None,
    checks: list[Check],
) -> Iterator[_Compared]:
    """What llama.cpp makes of one file; what is yes or no goes to `checks`."""
    path = inside(folder.path, entry.file)

    def told(id: str, name: str, problem: str | None) -> None:
        checks.append(claim(id, name, not problem, problem or "", package=entry.file, runtimes=LLAMA))

    try:
        llama = Llama(path, exact=True)
        if tokenizer is not None:
            told("token-ids", "token ids are the tokenizer's", _ids(llama.tokenize, tokenizer))
        found = np.stack([llama.log_probabilities(ids) for ids in prompts])
        if entry.quantization == "f32" and model is not None:
            told("greedy", "goes on after the golden prompts as PyTorch does", _greedy(llama, golden, model))
    except ToolkitError as error:
        told("loads", "loads and answers", str(error))
        return
    exact = entry.quantization in ("f32", "f16", "bf16")
    if theirs is not None:
        same = float((found.argmax(1) == theirs.argmax(1)).mean())
        checks.append(
            Check(
                "top-1", "share of prompts with the same likeliest token", "not judged", measured=same,
                package=entry.file, runtimes=pair(LLAMA, TORCH),
            )
        )  # fmt: skip
        if entry.quantization == "f32":
            yield _Compared(entry.file, LLAMA, TORCH, PLAIN_LIMIT, found, theirs)
        if exact and model is not None:
            own = _torch(with_table_gelu(model), prompts)
            yield _Compared(entry.file, LLAMA, TABLE_GELU, LIMITS[entry.quantization], found, own)
    if not exact:
        file, shape = read_model(path)
        own = _torch(with_table_gelu(read_gguf_weights(file, shape)), prompts)
        yield _Compared(entry.file, LLAMA, OWN_WEIGHTS, LIMITS[entry.quantization], found, own)


def _ids(tokenize: Callable[[str], list[int]], tokenizer: Tokenizer) -> str | None:
    for text in STRINGS:
        if (found := tokenize(text)) != (wanted := tokenizer.encode(text)):
            return f"{text!r} must be {wanted}, is {found}"
    return None


def _greedy(llama: Llama, golden: Sequence[GoldenRow], model: Decoder) -> str | None:
    """The first place where another token was said, unless the two were equally likely but for rounding."""
    for row in golden:
        found, wanted = llama.generate(row.ids, len(row.greedy)).ids, list(row.greedy)
        if found == wanted:
            continue
        length = min(len(found), len(wanted))
        place = next((i for i in range(length) if found[i] != wanted[i]), length)
        if place < length:
            own = _torch(model, [[*row.ids, *wanted[:place]]])[0]
            if own[wanted[place]] - own[found[place]] <= 2 * PLAIN_LIMIT:
                continue
        return f"after {row.text[:40]!r}, token {place} must be {wanted[place:][:1]}, is {found[place:][:1]}"
    return None
