"""Whether llama.cpp computes with an adapter what PyTorch and peft do: full log-probabilities, on float32.

On the base rewritten in F32, with keys and values in float32, the two differ by float32's rounding alone. In
fewer bits llama.cpp rounds what it multiplies with, too, and hides a wrong adapter: where the rows of q and k
are not put in order, the likeliest token is still the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.gguf import write_gguf
from device_sim.adapters.merging import write_merged
from device_sim.finetuning.examples import Example
from device_sim.finetuning.torch_base import TorchBase
from personality_common.evidence.claims import Check, claim, within
from personality_common.llama_server import LlamaServer

CONTEXT: Final = 1024
ROUNDING: Final = 2e-4
"""Nats that float32 itself may cost, where the base happens to be closer."""
Rows = NDArray[np.float64]


def adapter_parity(
    base: TorchBase, adapter: Adapter, examples: Sequence[Example], work: Path, *, file: Path | None = None
) -> tuple[Check, ...]:
    """Compare the log-probabilities of the token after each prompt, and after its answer.

    The adapter's distance must be at most twice that of the base alone.

    Args:
        work: an empty folder, for the base in F32; 4 bytes a weight.
        file: the adapter's GGUF file; None writes it.
    """
    write_merged(base.path, None, "f32", work / "base.gguf")
    if file is None:
        file = work / "adapter.gguf"
        write_gguf(adapter, file)
    prompts = [ids for row in base.rows(examples) for ids in (row.ids[: row.prompt], row.ids[:-1])]
    server = LlamaServer(work / "base.gguf", CONTEXT, exact=True, adapters=[file])
    plain = server.tokenize("a")[0]
    distances, alike = {}, {}
    for name, used in (("base", None), ("adapter", adapter)):
        with base.adapted(used) as model:
            ours = torch_rows(model, prompts)
        scale = 0.0 if used is None else 1.0
        theirs = np.stack([llama_row(server, ids, plain, ours.shape[1], scale) for ids in prompts])
        distances[name] = float(np.abs(ours - theirs).max())
        alike[name] = int((ours.argmax(1) == theirs.argmax(1)).sum())
    limit = max(2 * distances["base"], ROUNDING)
    said = f"{len(prompts)} prompts; the base alone {distances['base']:.1e}"
    return (
        within(
            "adapter.log-probabilities.max-abs", "log-probabilities with the adapter", distances["adapter"],
            "<=", limit, said, unit="nats", package=file.name, runtimes="llama / torch",
        ),
        claim(
            "adapter.top-1", "the likeliest token with the adapter", alike["adapter"] == len(prompts),
            f"{alike['adapter']} of {len(prompts)} the same", package=file.name, runtimes="llama / torch",
        ),
    )  # fmt: skip


def torch_rows(model: Any, prompts: Sequence[Sequence[int]]) -> Rows:
    """(prompts, V) log-probabilities of the token after each."""
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([ids])).logits[0, -1].double().log_softmax(0) for ids in prompts]
    return torch.stack(rows).numpy()


def llama_row(server: LlamaServer, ids: Sequence[int], plain: int, size: int, scale: float) -> Rows:
    """(V,) log-probabilities of the token after `ids`; llama.cpp's own, from before anything is drawn.

    Args:
        plain: a token that is text by itself, which is drawn whatever the logits are.
        scale: of the first adapter.
    """
    request = {
        "prompt": list(ids), "n_predict": 1, "n_probs": size, "logit_bias": [[plain, 1e6]],
        "temperature": 0.0, "cache_prompt": False, "lora": [{"id": 0, "scale": scale}],
    }  # fmt: skip
    found = np.full(size, np.nan)
    for entry in server.post("/completion", request)["completion_probabilities"][0]["top_logprobs"]:
        found[entry["id"]] = entry["logprob"]
    return found
