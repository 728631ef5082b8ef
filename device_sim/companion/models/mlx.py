"""`mlx:` a folder of the hub in MLX: Apple silicon's own runtime, and on Linux, slowly, its CPU build."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator
from typing import Any

from device_sim.companion.models.hub import HubModel, find_folder
from device_sim.companion.models.model import Sampling
from personality_common.errors import DataError, ToolkitError
from personality_common.printable import excerpt


class MlxModel(HubModel):
    """See `HubModel`. Adapters: merge one, or take the GGUF file."""

    def __init__(self, name: str) -> None:
        """
        Args:
            name: a folder, or a name in the hub's cache; quantized ones too.

        Raises:
            ToolkitError: mlx-lm is not installed.
            ConfigError, DataError: see `find_folder`; damaged, or of a kind that mlx-lm does not know.
        """
        if importlib.util.find_spec("mlx_lm") is None:
            raise ToolkitError(
                "mlx: needs mlx-lm: pip install mlx-lm on a Mac with Apple silicon, elsewhere pip install"
                " 'mlx[cpu]' mlx-lm, which is slow"
            )
        super().__init__(find_folder(name, "mlx"), "mlx")
        # Before 5 transformers wrote the base of the rotation at the top level, where alone mlx-lm looks; it
        # takes another where there is none, and says nothing.
        rope = self._text_config().get("rope_parameters")
        theta = rope.get("rope_theta") if isinstance(rope, dict) else None
        known = "rope_theta" in self._config or theta is None
        try:
            self._mx: Any = importlib.import_module("mlx.core")
            self._model, _ = importlib.import_module("mlx_lm.utils").load_model(
                self._path, model_config=None if known else {"rope_theta": theta}
            )
        except Exception as error:  # the library raises what its parsers raise
            raise DataError(f"{self._path}: mlx-lm must take the model: {excerpt(error)}") from None

    def _tokens(self, prompt: list[int], sampling: Sampling) -> Generator[int, None, None]:
        mx = self._mx
        generate: Any = importlib.import_module("mlx_lm.generate")
        sampler = importlib.import_module("mlx_lm.sample_utils").make_sampler(sampling.temperature)
        if sampling.seed is not None:
            mx.random.seed(sampling.seed)
        steps = generate.generate_step(
            mx.array(prompt), self._model, max_tokens=sampling.max_tokens, sampler=sampler
        )
        try:
            for token, _ in steps:
                yield int(token)
        finally:
            steps.close()

    def _log_probabilities(self, prompt: list[int], answer: list[int]) -> list[float]:
        if not answer:
            return []
        mx = self._mx
        logits = self._model(mx.array([prompt + answer]))[0].astype(mx.float32)[len(prompt) - 1 : -1]
        rows = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        return [float(rows[i, token].item()) for i, token in enumerate(answer)]
