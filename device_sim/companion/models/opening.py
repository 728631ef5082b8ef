"""The model that a user names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from device_sim.companion.config import DEFAULT_MODEL
from device_sim.companion.models.model import ChatModel
from personality_common.errors import ConfigError

if TYPE_CHECKING:
    from device_sim.companion.models.openai import OpenAIModel

OPENAI_URL = "https://api.openai.com/v1"


def open_model(
    name: str, *, threads: int = 1, adapter: Path | None = None, store: Path | None = None
) -> ChatModel:
    """Open what `--model` names.

    Args:
        name: `smollm2`, a GGUF file, a folder of `pt lm export`, `hf:` or `mlx:` and a folder or a cached
            name of the hub, a URL, or `openai:URL#MODEL`.
        adapter: a LoRA in GGUF.
        store: a companion's, whose active adapter is taken if there is one, and of this model.

    Raises:
        ConfigError: it names nothing, or what takes no adapter is to take one.
        ToolkitError: see the models.
    """
    if name.startswith(("http://", "https://", "openai:")):
        if adapter is not None:
            raise ConfigError("--adapter must be of a GGUF file; a server by URL loads its own")
        return _server(name)
    scheme, _, named = name.partition(":")
    if scheme in ("hf", "mlx"):
        if adapter is not None:
            raise ConfigError(f"--adapter must be of a GGUF file; {scheme}: takes none")
        return _hub(scheme, named)

    from device_sim.adapters.learned import active_file
    from device_sim.companion.models.llama import LlamaModel

    path = gguf_file(name)
    if store is not None and (learned := active_file(store, path)):
        version, file = learned
        return LlamaModel(path, threads=threads, adapters={version: file}).with_scales({version: 1.0})
    return LlamaModel(path, threads=threads, adapter=adapter)


def gguf_file(name: str) -> Path:
    """The file of a model that runs here.

    Args:
        name: `smollm2`, a GGUF file, or a folder of `pt lm export`.

    Raises:
        ConfigError: it names nothing.
        ToolkitError: the model's package is not installed.
    """
    from device_sim.companion.models.llama import smollm2

    path = smollm2() if name == DEFAULT_MODEL else Path(name)
    if path.is_dir():
        from pretrain.lm.bundle.folder import served_file

        path = served_file(path)
    elif not path.exists():
        raise ConfigError(
            f"--model must be {DEFAULT_MODEL}, a GGUF file, a folder of pt lm export, hf:NAME, mlx:NAME, or a"
            f" URL, got {name!r:.200}"
        )
    return path


def _server(name: str) -> OpenAIModel:
    from device_sim.companion.models.openai import OpenAIModel

    url, _, model = name.removeprefix("openai:").partition("#")
    return OpenAIModel(url or OPENAI_URL, model or None)


def _hub(scheme: str, name: str) -> ChatModel:
    if scheme == "mlx":
        from device_sim.companion.models.mlx import MlxModel

        return MlxModel(name)
    from device_sim.companion.models.huggingface import HuggingFaceModel

    return HuggingFaceModel(name)
