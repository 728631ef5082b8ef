"""This machine, as far as it decides what works."""

from __future__ import annotations

import contextlib
import locale
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_GIB: Final = 1 << 30
VARIABLES: Final = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "PYTHONPATH",
    "PYTHONUTF8", "LC_ALL", "COLUMNS",
)  # fmt: skip
"""Those that change what commands do and hold no secret; of PYTHONPATH and its like, whether it is set."""
_SHOWN: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE", "PYTHONUTF8", "COLUMNS")


def machine() -> Iterator[tuple[str, str]]:
    """Facts by name, each in a few words."""
    yield "system", f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield "python", f"{platform.python_implementation()} {platform.python_version()}, {_environment()}"
    yield "cores", f"{os.cpu_count()}, {_usable_cores()} of them for this process"
    yield "memory", _memory()
    yield "disk", ", ".join(f"{_free(path)} free {where}" for where, path in _folders().items())
    yield (
        "encoding",
        f"{sys.getfilesystemencoding()} for names, {locale.getpreferredencoding(False)} for text",
    )
    yield "variables", ", ".join(_variables()) or "none that matters"


def _environment() -> str:
    return "in a virtual environment" if sys.prefix != sys.base_prefix else "in no virtual environment"


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> str:
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    said = f"{total / _GIB:.1f} GiB"
    with contextlib.suppress(ValueError, OSError):  # macOS does not tell
        said += f", {page * os.sysconf('SC_AVPHYS_PAGES') / _GIB:.1f} free"
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (most := limit.read_text().strip()).isdigit():
        said += f", {int(most) / _GIB:.1f} for this container"
    return said


def _folders() -> dict[str, Path]:
    return {"here": Path.cwd(), "for temporary files": Path(tempfile.gettempdir())}


def _free(path: Path) -> str:
    return f"{shutil.disk_usage(path).free / _GIB:.1f} GiB"


def _variables() -> Iterator[str]:
    for name in VARIABLES:
        if (value := os.environ.get(name)) is not None:
            yield f"{name}={value}" if name in _SHOWN else f"{name} is set"
