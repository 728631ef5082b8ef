"""Fixtures that tests of several packages share."""

import dataclasses
import fcntl
import gc
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from personality_common.evidence.provenance import Provenance

MakeRun = Callable[..., Path]
Once = Callable[[str, Callable[[Path], object]], Path]

# In the background of a script, or under nohup, these are ignored, and processes that tests start inherit it.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What was imported stays; each conversion by coremltools has all that is left looked through."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: a folder that `make` fills, in one of the workers for all of them. Read only."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def find(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / "once" / name
        folder.parent.mkdir(exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                unfinished = tmp_path_factory.mktemp(name)
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return find


@pytest.fixture(scope="session", autouse=True)
def notes_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered of runs made here is a test's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def made() -> Provenance:
    """Of a report that a test makes."""
    return Provenance("2026-01-02T03:04:05+00:00", "pt parity '<b>'", "Linux, 2 cores", {"torch": "2.13.0"})


@pytest.fixture(scope="session")
def make_run(notes_of_runs: None) -> MakeRun:
    """Write a finished run without training: `make_run(folder, encoder="minilm", values={…}, seed=0)`.

    Weights are random (PyTorch's own start, with small random biases), as `pt pretrain` would
    write them; `values` replaces parameters of the model by name. The encoder is MiniLM, or
    `openai`, whose runs have no projector. Nothing is loaded or sent. A run counts as made here unless `mine`
    is False.
    """

    def make(
        folder: Path,
        *,
        encoder: str = "minilm",
        values: Mapping[str, Any] | None = None,
        seed: int = 0,
        sample: int = 96,
        mine: bool = True,
    ) -> Path:
        import torch

        from personality_common.files.atomic import write_json
        from personality_common.files.tensors import save_tensors, tensor_fingerprints
        from personality_common.text.identity import EncoderIdentity
        from personality_common.text.sentence import MINILM_SHA256
        from personality_common.vocabulary import load_vocabulary
        from pretrain.personality.model import EmbeddingProjector, PersonalityModel
        from pretrain.personality.reference import save_sample

        identity = {
            "minilm": EncoderIdentity(
                "all-MiniLM-L6-v2", "", MINILM_SHA256, "Transformer > Pooling(mean) > Normalize", 256, 384
            ),
            "openai": EncoderIdentity("text-embedding-3-small", "2024-01-25", "", "", 8191, 1536),
        }[encoder]
        vocabulary = load_vocabulary()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = PersonalityModel()
            torch.nn.init.normal_(model.output_bias, std=0.1)
            projector = EmbeddingProjector() if encoder == "minilm" else None
        with torch.no_grad():
            for name, value in (values or {}).items():
                model.get_parameter(name).copy_(torch.as_tensor(value))
        tensors = {"personality_model_weights.safetensors": model.state_dict()}
        if projector is not None:
            tensors["embedding_projector_weights.safetensors"] = projector.state_dict()
        for file, content in tensors.items():
            save_tensors(folder / file, content, {"vocabulary_fingerprint": vocabulary.fingerprint})
        if sample:
            drawn = torch.randn(sample, identity.dim, generator=torch.Generator().manual_seed(seed))
            save_sample(folder, torch.nn.functional.normalize(drawn))
        write_json(folder / "personality-tokens.json", {"tokens": list(vocabulary.tokens)})
        write_json(folder / "training_history.json", {"epochs": []})
        record = {
            "schema": 1,
            "finished": "2026-01-01T00:00:00+00:00",
            "vocabulary": {"fingerprint": vocabulary.fingerprint, "size": len(vocabulary.tokens)},
            "encoder": {
                "option": encoder,
                "identity": dataclasses.asdict(identity),
                "fingerprint": identity.fingerprint,
                "source": "made by a test",
                "compute_dtype": "float32",
            },
            "tensors": {
                file: {
                    name: {"shape": list(t.shape), "dtype": "float32", "fingerprint": f}
                    for (name, t), f in zip(
                        content.items(), tensor_fingerprints(content).values(), strict=True
                    )
                }
                for file, content in tensors.items()
            },
        }
        write_json(folder / "run.json", record)
        if mine:
            remember(folder)
        return folder

    return make


def remember(folder: Path) -> None:
    """A run as one that was made here."""
    from personality_common.runs.record import read_record
    from personality_common.text.consent import remember_run

    record = read_record(folder, "personality")
    parts = (record.content[part]["fingerprint"] for part in ("vocabulary", "encoder"))
    remember_run(record.fingerprint(*parts))


@pytest.fixture(scope="session")
def shared_run(make_run: MakeRun, once: Once) -> Callable[[str], Path]:
    """`shared_run(encoder)`: what `make_run` makes of that encoder."""

    def find(encoder: str) -> Path:
        run = once(f"{encoder}-run", lambda folder: make_run(folder / "run", encoder=encoder)) / "run"
        remember(run)
        return run

    return find


@pytest.fixture(scope="session")
def openai_run(shared_run: Callable[[str], Path]) -> Path:
    """A run without a local encoder, so that nothing loads sentence-transformers. Read only."""
    return shared_run("openai")


@pytest.fixture(scope="session")
def openai_bundle(openai_run: Path, once: Once) -> Path:
    """Of that run the four packages of the personality model, for iOS 18, float32. Read only."""
    return _exported(once, "openai-bundle", openai_run, target="iOS18")


@pytest.fixture(scope="session")
def minilm_run(shared_run: Callable[[str], Path]) -> Path:
    """A run with MiniLM. Read only."""
    return shared_run("minilm")


@pytest.fixture(scope="session")
def minilm_bundle(minilm_run: Path, once: Once) -> Path:
    """Of that run the personality model and the text encoder. Read only."""
    return _exported(once, "minilm-bundle", minilm_run, only=("model", "encoder"))


def _exported(once: Once, name: str, run: Path, **settings: Any) -> Path:
    from personality_common.terminal.progress import SILENT
    from pretrain.personality.export.bundle import export
    from pretrain.personality.export.config import ExportConfig

    return (
        once(name, lambda folder: export(ExportConfig(run, folder / "bundle", **settings), SILENT)) / "bundle"
    )
