"""What a model is served from: a GGUF file, an exported folder, or a run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from personality_common.contract import RUN_FILE
from personality_common.terminal.progress import SILENT
from pretrain.lm.config import ExportConfig


@contextmanager
def gguf_of(source: Path) -> Iterator[Path]:
    """The file that answers; of a run one that is made for now, in float32.

    Raises:
        ConfigError: the folder has no such file.
        DataError: no run, and no folder of `pt lm export`.
        ToolkitError: as `pretrain.lm.export.folder.export`, of a run.
    """
    if not source.is_dir():
        yield source
        return
    from pretrain.lm.bundle.folder import served_file

    if not (source / RUN_FILE).is_file():
        yield served_file(source)
        return
    from pretrain.lm.export.folder import export

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        export(ExportConfig(source, out, ("gguf",), ("f32",)), SILENT)
        yield served_file(out)


def name_of(source: Path) -> str:
    """By which clients ask for it: the folder's name, or the file's without its ending."""
    name = source.resolve().name.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9._-]", "-", name) or "model"
