import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
import torch

from personality_common.files.atomic import write_json
from personality_common.runs.folder import hold_run, publish, take_up
from personality_common.runs.record import new_record, save_weights
from personality_common.terminal.progress import Silent
from pretrain.lm import optimizer, pipeline, training
from pretrain.lm.chat import Document, Turn
from pretrain.lm.config import QUANTIZATIONS, ExportConfig, ModelConfig, TokenizerConfig, TrainConfig
from pretrain.lm.data.documents import document_line
from pretrain.lm.data.folder import DATA_FILE, DataRecord, Shard, SplitName
from pretrain.lm.data.reasoning import reasoning_documents
from pretrain.lm.data.tools import tool_documents
from pretrain.lm.export.folder import export
from pretrain.lm.model import Decoder
from pretrain.lm.pipeline import make_tokenizer, train_lm
from pretrain.lm.run import TRAINER, WEIGHTS_FILE, Run, load_run, run_entries
from pretrain.lm.tokenizer import Tokenizer, train_tokenizer

TINY = ModelConfig(640, 128, 2, 2, 64, 256, rope_base=3_000.0)
"""A row of 256 in its feed-forward part, so that one matrix a layer can be in a K type."""


@pytest.fixture(scope="session", autouse=True)
def _float32() -> Iterator[None]:
    """Tolerances here are of float32, on machines that multiply bfloat16 faster, too."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (optimizer, pipeline, training):
            patch.setattr(module, "fast_dtype", lambda device: torch.float32)
        yield


TEXTS = ("LICENSE", "fixtures/feelings.txt", "fixtures/tools.json")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Some that nobody edits, since a test may go by every token; with what tokenizers stumble over."""
    root = Path(__file__).parents[3]
    words = [line for name in TEXTS for line in (root / name).read_text().splitlines()]
    odd = [
        "don't we'LL \u2028 naïve café 日本語 \U0001f642 \x00\x7f\ufeff",
        "1234567890 3.14 <|end|> \t\r\n  x",
    ]
    return words + odd


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    """640 tokens, learned from the texts."""
    return train_tokenizer(texts, TokenizerConfig(TINY.vocab_size))


def make_run(run: Path, model: Decoder, tokenizer: Tokenizer) -> Run:
    """A finished run as training leaves it, but for the training."""
    with hold_run(run, resume=False):
        take_up(run, {"seed": 0}, False, Silent())
        work = run / "in-progress"
        tokenizer.save(work)
        tensors = save_weights(work, {WEIGHTS_FILE: model}, {})
        record = new_record(TRAINER, model.config, ("torch",), {}, tensors)
        publish(run, record | run_entries(model.config, tokenizer))
    return load_run(run)


@pytest.fixture(scope="session")
def lm_run(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A model in which everything matters: no weight is small, no bias 0, no scale 1."""
    torch.manual_seed(0)
    model = Decoder(TINY)
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(index)) * 0.1)
    return make_run(tmp_path_factory.mktemp("lm") / "run", model, tokenizer)


@pytest.fixture(scope="session")
def lm_folder(lm_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in all forms."""
    out = tmp_path_factory.mktemp("lm") / "folder"
    export(ExportConfig(lm_run.path, out, quantize=QUANTIZATIONS), Silent())
    return out


def write_data(folder: Path, splits: dict[SplitName, Iterable[Document]]) -> Path:
    """A folder as `pt lm data` writes it, of these documents."""
    folder.mkdir()
    files: dict[str, Shard] = {}
    for split, documents in splits.items():
        lines = [document_line(document) for document in documents]
        content = b"".join(lines)
        (folder / f"{split}-00000.jsonl").write_bytes(content)
        files[f"{split}-00000.jsonl"] = Shard(
            split, len(lines), len(content), hashlib.sha256(content).hexdigest()
        )
    fingerprint = hashlib.sha256("".join(shard.sha256 for shard in files.values()).encode()).hexdigest()
    write_json(folder / DATA_FILE, asdict(DataRecord(1, 0, "0" * 64, fingerprint, (), files)))
    return folder


@pytest.fixture(scope="session")
def lm_data(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calls of tools, reasoning, and lines of text; one in five held out."""
    pool = list(tool_documents("tools", 600, 0, 0.2))
    pool += [one for one, _ in islice(reasoning_documents("reasoning", 100, 0, 0.2), 100)]
    pool += [
        Document(f"text/{i}", "text", f"text/{i}", None, (Turn("text", line, True),))
        for i, line in enumerate(texts)
        if len(line) > 20
    ]
    unseen = [one for i, one in enumerate(pool) if one.held_out or (one.source != "tools" and i % 5 == 0)]
    train = [one for one in pool if one not in unseen]
    splits: dict[SplitName, Iterable[Document]] = {
        "train": train,
        "validation": unseen[::2],
        "test": unseen[1::2],
    }
    return write_data(tmp_path_factory.mktemp("lm") / "data", splits)


@pytest.fixture(scope="session")
def lm_tokenizer(lm_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 640 tokens, learned from the training documents."""
    out = tmp_path_factory.mktemp("lm") / "tokenizer"
    make_tokenizer(lm_data, out, TokenizerConfig(640), Silent())
    return out


@pytest.fixture(scope="session")
def train_config(lm_data: Path, lm_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A model that trains in a second: 24 steps, measured after 8, 16, 24."""
    size = "layers=2,heads=2,embedding_size=32,feed_forward_size=64,context_length=128"
    run = tmp_path_factory.mktemp("lm") / "run"
    return TrainConfig(
        lm_data, lm_tokenizer, run, size, tokens=0.024576, batch_size=8, evaluate_every=8, device="cpu"
    )


@pytest.fixture(scope="session")
def trained_run(train_config: TrainConfig) -> Path:
    train_lm(train_config, Silent())
    return train_config.output_dir
