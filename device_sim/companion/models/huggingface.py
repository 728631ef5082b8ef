"""`hf:` a folder of the hub in transformers: whatever the installed version knows, with PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Generator
from typing import Any

import torch

from device_sim.companion.models.hub import HubModel, find_folder
from device_sim.companion.models.model import Sampling
from personality_common.errors import DataError
from personality_common.printable import excerpt
from personality_common.runs.device import choose_device, fast_dtype


class HuggingFaceModel(HubModel):
    """See `HubModel`. Of adapters it knows none: merge one, or take the GGUF file."""

    def __init__(self, name: str, *, dtype: torch.dtype | None = None) -> None:
        """
        Args:
            name: a folder, or a name in the hub's cache.
            dtype: None: the fastest that is here.

        Raises:
            ConfigError, DataError: see `find_folder`; damaged, or of a kind that transformers does not know.
        """
        super().__init__(find_folder(name, "hf"), "hf")
        transformers: Any = importlib.import_module("transformers")
        logging: Any = importlib.import_module("transformers.utils.logging")
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        self._device = choose_device("auto")
        try:
            model, told = transformers.AutoModelForCausalLM.from_pretrained(
                self._path,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype or fast_dtype(self._device),
                output_loading_info=True,
            )
        except Exception as error:  # the library raises what its parsers raise
            raise DataError(f"{self._path}: transformers must take the model: {excerpt(error)}") from None
        if missing := sorted({*told["missing_keys"], *(str(k) for k in told["mismatched_keys"])}):
            raise DataError(f"{self._path}: must have all weights of the model, {missing[0]:.100} is missing")
        self._model = model.eval().to(self._device)

    def _tokens(self, prompt: list[int], sampling: Sampling) -> Generator[int, None, None]:
        generator = torch.Generator()
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        ids, cache = prompt, None
        while True:
            with torch.inference_mode():
                out = self._model(
                    torch.tensor([ids], device=self._device),
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            logits, cache = out.logits[0, -1].float().cpu(), out.past_key_values
            if sampling.temperature == 0:
                token = int(logits.argmax())
            else:
                odds = torch.softmax(logits / sampling.temperature, -1)
                token = int(torch.multinomial(odds, 1, generator=generator))
            yield token
            ids = [token]

    def _log_probabilities(self, prompt: list[int], answer: list[int]) -> list[float]:
        if not answer:
            return []
        with torch.inference_mode():
            logits = self._model(torch.tensor([prompt + answer], device=self._device)).logits[0].float()
        rows = torch.log_softmax(logits[len(prompt) - 1 : -1], -1).cpu()
        return [float(row[token]) for row, token in zip(rows, answer, strict=True)]
