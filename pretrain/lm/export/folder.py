"""`pt lm export`: from a run to a folder that llama.cpp, transformers, MLX and Ollama take."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from personality_common.bundle.files import file_table
from personality_common.bundle.manifest import RunReference
from personality_common.contract import MANIFEST_FILE
from personality_common.errors import ConfigError
from personality_common.files.atomic import write_json
from personality_common.files.staging import staged_folder
from personality_common.terminal.progress import Reporter
from pretrain.lm.bundle.comparison import compare
from pretrain.lm.bundle.gguf_file import read_gguf
from pretrain.lm.bundle.manifest import (
    FAMILY,
    GOLDEN_FILE,
    HUGGING_FACE_DIR,
    MANIFEST_SCHEMA,
    MODELFILE,
    GgufEntry,
    Manifest,
    Settings,
    gguf_file,
)
from pretrain.lm.chat import END_ID, Document, Turn
from pretrain.lm.chat_template import CHAT_TEMPLATE
from pretrain.lm.config import ExportConfig, Quantization
from pretrain.lm.export.gguf import write_gguf
from pretrain.lm.export.huggingface import write_hugging_face
from pretrain.lm.export.ollama import modelfile
from pretrain.lm.model import Decoder, generate
from pretrain.lm.run import Run, load_run
from pretrain.lm.tokenizer import Tokenizer

GOLDEN_TEXTS: Final = (
    "Hello, how are you?",
    "Set a timer for 12 minutes, please.",
    "It's 3 o'clock; naïve café, 日本語, 🙂.\n\n\tdef f(x):  return x",
)
GOLDEN_TOP: Final = 20
GOLDEN_GREEDY: Final = 64


@dataclass(frozen=True)
class ExportResult:
    """What was written: folder and manifest."""

    folder: Path
    manifest: Manifest


def export(config: ExportConfig, reporter: Reporter) -> ExportResult:
    """Write a folder, hold each weight in it to the run's, and put it in place; a failure or a kill leaves
    what was there.

    Raises:
        ConfigError: the target is no folder of an export.
        DataError: no finished run, or a damaged one.
        MismatchError: the run's files do not belong together, or a weight came out as another.
        ToolkitError: a package is missing, or a weight is not finite in the type asked for.
        OSError: no space, no permission.
    """
    if config.out.exists() and not (config.out / MANIFEST_FILE).is_file():
        raise ConfigError(
            f"--out must be a new folder or an earlier export, {config.out} has no {MANIFEST_FILE}"
        )
    run = load_run(config.run)
    manifest = _manifest(run, config)
    with staged_folder(config.out) as folder:
        write_json(folder / GOLDEN_FILE, _golden(run.model, run.tokenizer))
        if "gguf" in config.formats:
            entries = tuple(_write_gguf(folder, run, quantization) for quantization in config.quantize)
            for entry in entries:
                reporter.say(f"{entry.file}: weights within {entry.largest_difference:.2g} of the run's")
            manifest = replace(manifest, gguf=entries)
        if "hf" in config.formats:
            write_hugging_face(folder / HUGGING_FACE_DIR, run.model, run.tokenizer)
            reporter.say(f"{HUGGING_FACE_DIR}: written")
        if "ollama" in config.formats:
            text = modelfile(gguf_file(config.for_ollama), run.model.config)
            (folder / MODELFILE).write_text(text, encoding="utf-8")
        manifest = replace(manifest, files=file_table(folder))
        write_json(folder / MANIFEST_FILE, asdict(manifest))
    return ExportResult(config.out, manifest)


def _write_gguf(folder: Path, run: Run, quantization: Quantization) -> GgufEntry:
    name = gguf_file(quantization)
    metadata = {"general.name": FAMILY, "pt.weights_sha256": run.weights_sha256}
    write_gguf(folder / name, run.model, run.tokenizer, quantization, metadata)
    file = read_gguf(folder / name)
    types = Counter(tensor.type.name for tensor in file.tensors.values())
    return GgufEntry(name, quantization, dict(sorted(types.items())), compare(file, run.model))


def _golden(model: Decoder, tokenizer: Tokenizer) -> dict[str, Any]:
    """Prompts, and what PyTorch makes of them in float32: the likeliest next tokens with their
    log-probabilities, and the likeliest continuation."""
    rows = []
    for text in GOLDEN_TEXTS:
        prompt = Document("golden", FAMILY, "golden", None, (Turn("user", text, False),))
        ids = tokenizer.encode_prompt(prompt)[: model.config.context_length - 1]
        with torch.inference_mode():
            logits = model(torch.tensor([ids]))[0, -1].double()
        top = torch.log_softmax(logits, -1).topk(min(GOLDEN_TOP, len(logits)))
        rows.append(
            {
                "text": text,
                "ids": ids,
                "top_ids": top.indices.tolist(),
                "top_log_probabilities": [round(value, 6) for value in top.values.tolist()],
                "greedy": list(generate(model, ids, GOLDEN_GREEDY, (END_ID,))),
            }
        )
    return {"rows": rows}


def _manifest(run: Run, config: ExportConfig) -> Manifest:
    """The manifest of a folder that has no file yet."""
    return Manifest(
        schema=MANIFEST_SCHEMA,
        family=FAMILY,
        versions={name: version(name) for name in ("personality-toolkit", "torch")},
        settings=Settings(config.formats, config.quantize if "gguf" in config.formats else ()),
        run=RunReference(run.weights_sha256, run.record.finished),
        model=run.model.config,
        tokenizer_sha256=hashlib.sha256(run.tokenizer.data).hexdigest(),
        chat_template_sha256=hashlib.sha256(CHAT_TEMPLATE.encode()).hexdigest(),
        gguf=(),
        hugging_face=HUGGING_FACE_DIR if "hf" in config.formats else None,
        modelfile=MODELFILE if "ollama" in config.formats else None,
        golden=GOLDEN_FILE,
        files={},
    )
