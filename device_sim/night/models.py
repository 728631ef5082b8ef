"""A night's engine: losses and training in PyTorch, answers in llama.cpp, which serves by day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sim.adapters.packages import require_mlx
from device_sim.capability.running import Scored, run_suite
from device_sim.capability.suite import Suite
from device_sim.companion.models.model import Message, Sampling
from device_sim.companion.prompt import SYSTEM, build_prompt
from device_sim.night.engine import Prompted, Said
from device_sim.night.state import Epoch, Training
from personality_common.files.atomic import file_sha256
from personality_common.registry.pointers import holds_kind
from personality_common.registry.registry import Registry
from personality_common.terminal.progress import SILENT, Reporter

if TYPE_CHECKING:
    from device_sim.companion.models.llama import LlamaModel
    from device_sim.finetuning.config import Backend
    from device_sim.finetuning.examples import Example
    from device_sim.finetuning.torch_base import TorchBase
    from personality_common.text.identity import Encoder

_TONIGHT: Final = "tonight"


class ModelEngine:
    """See `Engine`; what takes long to load is loaded when it is first needed.

    What the base answers never changes, and is kept as long as the engine.
    """

    def __init__(
        self, path: Path, *, threads: int = 1, backend: Backend = "torch", reporter: Reporter = SILENT
    ) -> None:
        """
        Args:
            path: the base, a GGUF file.
            backend: what trains; losses are measured by PyTorch.

        Raises:
            ToolkitError: the backend's package is not installed.
        """
        if backend == "mlx":
            require_mlx()
        self.path, self.threads, self.backend, self.reporter = path, threads, backend, reporter
        self._said: dict[tuple[Prompted, int], str] = {}
        self._ran: dict[str, list[Scored]] = {}

    @cached_property
    def base(self) -> str:
        return file_sha256(self.path)

    @cached_property
    def _encoder(self) -> Encoder:
        from personality_common.text.encoder import load_encoder

        return load_encoder("minilm")

    @cached_property
    def base_model(self) -> TorchBase:
        import torch

        from device_sim.finetuning.torch_base import TorchBase

        torch.set_num_threads(self.threads)
        return TorchBase(self.path)

    @cached_property
    def plain(self) -> LlamaModel:
        from device_sim.companion.models.llama import LlamaModel

        return LlamaModel(self.path, threads=self.threads)

    @contextlib.contextmanager
    def _served(self, adapter: Path | None) -> Iterator[LlamaModel]:
        if adapter is None:
            yield self.plain
            return
        from device_sim.companion.models.llama import LlamaModel

        yield LlamaModel(self.path, threads=self.threads, adapters={_TONIGHT: adapter}).with_scales(
            {_TONIGHT: 1.0}
        )

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray(self._encoder.encode(list(texts)), np.float32)

    def losses(self, adapter: Path | None, said: Sequence[Said]) -> list[float]:
        from device_sim.adapters.gguf import read_gguf_adapter
        from device_sim.finetuning.torch_base import example_losses

        if not said:
            return []
        read = None if adapter is None else read_gguf_adapter(adapter)
        return example_losses(self.base_model, read, self._examples(said))

    def answers(self, adapter: Path | None, asked: Sequence[Prompted], max_tokens: int) -> list[str]:
        known = self._said if adapter is None else {}
        sampling = Sampling(max_tokens=max_tokens, temperature=0.0)
        with self._served(adapter) as model, self.reporter.stage("answers", len(asked), "answers") as stage:
            for one in asked:
                if (one, max_tokens) not in known:
                    pieces = model.stream(self._prompt(one), sampling)
                    known[one, max_tokens] = "".join(piece.text for piece in pieces)
                stage.advance(1)
        return [known[one, max_tokens] for one in asked]

    def run(self, adapter: Path | None, suite: Suite, reporter: Reporter) -> list[Scored]:
        if adapter is None and suite.fingerprint in self._ran:
            return self._ran[suite.fingerprint]
        with self._served(adapter) as model:
            scored = run_suite(model, suite, reporter)
        if adapter is None and suite.fingerprint:
            self._ran[suite.fingerprint] = scored  # the base's answers never change
        return scored

    def train(
        self,
        train: Sequence[Said],
        validation: Sequence[Said],
        replay: Sequence[Said],
        out: Path,
        work: Path,
        *,
        seed: int,
        minutes: float,
        reporter: Reporter,
    ) -> Training:
        from device_sim.adapters.gguf import write_gguf
        from device_sim.finetuning.config import LoraConfig
        from device_sim.finetuning.training import train_adapter

        work.mkdir(parents=True, exist_ok=True)
        config = LoraConfig(seed=seed, minutes=minutes, backend=self.backend)
        done = train_adapter(
            self.base_model, self._examples(train), self._examples(validation), config, work, reporter,
            replay=self._examples(replay),
        )  # fmt: skip
        write_gguf(done.adapter, out)
        epochs = tuple(
            Epoch(int(e["step"]), float(e["train_loss"]), _number(e["held_out_loss"])) for e in done.history
        )
        return Training(epochs, done.best_step, done.tokens, done.seconds, done.peak_bytes)

    def registry(self, store: Path, *, create: bool) -> Registry[Any] | None:
        from device_sim.adapters.codec import ADAPTERS
        from device_sim.adapters.learned import LEARNED, create_adapters, open_adapters

        if holds_kind(store / LEARNED, ADAPTERS.kind):
            return open_adapters(store)
        return create_adapters(store, self.path) if create else None

    def value(self, adapter: Path) -> Any:
        from device_sim.adapters.gguf import read_gguf_adapter

        return read_gguf_adapter(adapter)

    def _prompt(self, asked: Prompted) -> Sequence[Message]:
        """As the companion asks, where no character is given and no mood is read."""
        return build_prompt(
            self.plain, asked.text, room=self.plain.context_length, system=self.plain.system or SYSTEM,
            memories=asked.memories, score=asked.score,
        ).messages  # fmt: skip

    def _examples(self, said: Sequence[Said]) -> list[Example]:
        from device_sim.finetuning.examples import Example

        return [Example((*self._prompt(asked), Message("assistant", told))) for asked, told in said]


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
