"""Part of bench_lm.py: what llama.cpp makes of exported files, beside PyTorch and the tokenizer."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from device_sim.parity.language import with_table_gelu
from personality_common.terminal.progress import SILENT
from pretrain.lm.bundle.folder import read_gguf_weights
from pretrain.lm.bundle.gguf_model import read_model
from pretrain.lm.bundle.manifest import gguf_file
from pretrain.lm.chat import SPECIAL_TOKENS, Document, Turn, call_text, render, signature_text
from pretrain.lm.config import QUANTIZATIONS, ExportConfig
from pretrain.lm.data.folder import open_data
from pretrain.lm.export.folder import export
from pretrain.lm.llama import Llama
from pretrain.lm.model import Decoder
from pretrain.lm.run import Run, load_run

POSITIONS = 44
Rows = NDArray[np.float32]
WORDS = (
    *("'s", "'LL", "'re", "don't", "a", "Zz", "_", "--", "…", "«", "!?", "€", "\\", '"', "g#1", "42", "3.14"),
    *(
        "½",
        "Ⅷ",
        "٣",
        "²",
        "é",
        "e\u0301",
        "ß",
        "İ",
        "ﬁ",
        "日本",
        "한국어",
        "ไทย",
        "עברית",
        "العربية",
        "हिन्दी",
    ),
    *("\U0001d54f", "\U0001f469\u200d\U0001f680", "http://a.b/c?d=e&f#g", "<|", "|>", "</s>", "<s>"),
)
SPACES = (
    *(" ", "  ", "\t\t", "\n", "\r\n", "\u00a0", "\u2028", "\u200b", "\u3000", "\x00", "\x01", "\x7f"),
    *("\ufeff", "\ufffd"),
)
TEXTS = (*WORDS, *SPACES, *SPECIAL_TOKENS, "Hi", "a\nb\n", "<b>&amp;</b>", "{{ x }} {% y %}", "'single'")
NAMES = ("set_timer", "Add", "café", "a<b", "zz&", 'q"uote', "x_1", "none")


@torch.inference_mode()
def log_probabilities(model: Decoder, prompts: Sequence[Sequence[int]]) -> Rows:
    """(prompts, V) of the token after each."""
    rows: Rows = torch.stack(
        [torch.log_softmax(model(torch.tensor([list(ids)]))[0, -1], -1) for ids in prompts]
    ).numpy()
    return rows


def _prompts(run: Run, data: Path) -> list[list[int]]:
    """Starts of test documents, one place of each."""
    draw = random.Random(0)
    found = []
    for document in open_data(data).documents("test"):
        ids = run.tokenizer.encode_document(document)[0][: run.model.config.context_length - 1]
        found.append(ids[: draw.randint(1, len(ids))])
        if len(found) == POSITIONS:
            break
    return found


def differences_by_type(run_folder: Path, data: Path, out: Path) -> dict[str, Any]:
    """Of log-probabilities, at most, in nats, after 44 starts of test documents, by type of the file.

    Beside PyTorch with the run's weights, with GELU as ggml looks it up, and with the file's own weights.
    """
    export(ExportConfig(run_folder, out, ("gguf",), QUANTIZATIONS), SILENT)
    run = load_run(run_folder)
    prompts = _prompts(run, data)
    plain, table = (
        log_probabilities(run.model, prompts),
        log_probabilities(with_table_gelu(run.model), prompts),
    )
    rows: dict[str, Any] = {}
    for name in QUANTIZATIONS:
        path = out / gguf_file(name)
        llama = Llama(path, exact=True)
        found = np.stack([llama.log_probabilities(ids) for ids in prompts])
        own = log_probabilities(with_table_gelu(read_gguf_weights(*read_model(path))), prompts)
        rows[name] = {
            "to the run": _most(found, plain), "with GELU as ggml": _most(found, table),
            "to its own weights": _most(found, own),
            "same likeliest": round(float((found.argmax(1) == plain.argmax(1)).mean()), 3),
        }  # fmt: skip
    rounded = Llama(out / gguf_file("f32"))
    rows["f32"]["with llama.cpp's own cache"] = _most(
        np.stack([rounded.log_probabilities(ids) for ids in prompts]), plain
    )
    return rows


def _most(one: Rows, other: Rows) -> float:
    return float(f"{np.abs(one - other).max():.2g}")


def agreement(run_folder: Path, file: Path, count: int) -> dict[str, int]:
    """How many of `count` hard strings have other token ids in llama.cpp, and of `count` conversations other
    bytes by the file's template."""
    llama, tokenizer = Llama(file), load_run(run_folder).tokenizer
    draw = random.Random(0)
    # Surrogates are no text.
    codes = [c for c in range(0x11000) if not 0xD800 <= c < 0xE000]
    strings = ["".join(draw.choices(TEXTS, k=draw.randint(1, 12))) for _ in range(count // 2)]
    strings += [
        "".join(map(chr, draw.choices(codes, k=draw.randint(1, 8)))) for _ in range(count - count // 2)
    ]
    ids = sum(llama.tokenize(text) != tokenizer.encode(text) for text in strings)
    rendered = 0
    for number in range(count):
        document, messages, tools = conversation(number)
        wanted = "".join(part.text for part in render(document)) + "<|assistant|>"
        rendered += llama.render(messages, tools) != wanted
    return {"strings": count, "other token ids": ids, "conversations": count, "other bytes": rendered}


def conversation(seed: int) -> tuple[Document, list[dict[str, Any]], list[dict[str, Any]]]:
    """A document, and the same as OpenAI's messages and tools."""
    draw = random.Random(seed)
    turns: list[Turn] = []
    messages: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []

    def said(role: str, ours: Any, content: str) -> None:
        turns.append(Turn(ours, content, False))
        messages.append({"role": role, "content": content})

    def text() -> str:
        return "".join(draw.choices(TEXTS, k=draw.randint(1, 3)))

    if draw.random() < 0.5:
        said("system", "system", "S" + text())
    if draw.random() < 0.6:
        lines = []
        for name in draw.sample(NAMES, draw.randint(1, 3)):
            kinds = {
                key: draw.choice(["string", "integer"]) for key in draw.sample(NAMES, draw.randint(0, 3))
            }
            description = draw.choice(["", 'Does <this> & "that".'])
            lines.append(signature_text(name, description, kinds))
            parameters = {"type": "object", "properties": {key: {"type": k} for key, k in kinds.items()}}
            function = {"name": name, "description": description, "parameters": parameters}
            tools.append({"type": "function", "function": function})
        turns.append(Turn("tools", "\n".join(lines), False))
    for _ in range(draw.randint(0, 2)):
        said("user", "user", text())
        if tools and draw.random() < 0.5:
            values = {n: draw.choice([1, -20, 2.5, True, "é<", "x\ny"]) for n in draw.sample(NAMES, 2)}
            call: dict[str, Any] = {"name": draw.choice(NAMES), "arguments": values}
            turns.append(Turn("call", call_text(**call), True))
            # OpenAI's clients send arguments as a string of JSON.
            function = call | {"arguments": json.dumps(values)}
            made = {"id": "1", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": "", "tool_calls": [made]})
            said("tool", "result", text())
            said("assistant", "assistant", text())
        else:
            said("assistant", "none" if tools else "assistant", text())
    said("user", "user", "Last" + text())
    return Document(str(seed), "s", "g", None, tuple(turns)), messages, tools
