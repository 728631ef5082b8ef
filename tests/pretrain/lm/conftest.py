from pathlib import Path

import pytest
import torch

from personality_common.runs.folder import hold_run, publish, take_up
from personality_common.runs.record import new_record, save_weights
from personality_common.terminal.progress import Silent
from pretrain.lm.config import QUANTIZATIONS, ExportConfig, ModelConfig, TokenizerConfig
from pretrain.lm.export.folder import export
from pretrain.lm.model import Decoder
from pretrain.lm.run import TRAINER, WEIGHTS_FILE, Run, load_run, run_entries
from pretrain.lm.tokenizer import Tokenizer, train_tokenizer

TINY = ModelConfig(640, 128, 2, 2, 64, 256, rope_base=3_000.0)
"""A row of 256 in its feed-forward part, so that one matrix a layer can be in a K type."""


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Some of this project's own, with what tokenizers stumble over."""
    root = Path(__file__).parents[3]
    words = (root / "README.md").read_text().splitlines() + (root / "SECURITY.md").read_text().splitlines()
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
