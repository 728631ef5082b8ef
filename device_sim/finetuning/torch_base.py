"""A GGUF file's model in PyTorch, float32: its weights dequantised, its prompts in llama.cpp's token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from device_sim.adapters.adapter import Adapter
from device_sim.finetuning.examples import Example, Row


class TorchBase:
    """Opened once, for a training and all that is measured around it.

    Attributes:
        path: the GGUF file.
        sha256: of the file.
    """

    path: Path
    sha256: str

    def __init__(self, path: Path) -> None:
        """Dequantise a file.

        Raises:
            DataError: no GGUF file, or of an architecture other than llama.
            ToolkitError: a package of the extra `night` is not installed.
        """
        raise NotImplementedError

    def rows(self, examples: Sequence[Example]) -> list[Row]:
        """Examples in the token ids that llama.cpp would be given."""
        raise NotImplementedError


def example_losses(base: TorchBase, adapter: Adapter | None, examples: Sequence[Example]) -> list[float]:
    """Mean nats per answer token of each example, the end of its turn among them.

    Raises:
        MismatchError: the adapter is another base's.
    """
    raise NotImplementedError
