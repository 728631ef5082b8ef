"""Where to compute, in which precision, and with which seed."""

from __future__ import annotations

import os

import torch

from personality_common.errors import ToolkitError


def choose_device(name: str) -> str:
    """`auto` -> the fastest that is here; others as they are.

    Raises:
        ToolkitError: unknown, or not on this machine.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if available[device])
    if not available.get(name, False):
        here = ", ".join(device for device, there in available.items() if there)
        raise ToolkitError(f"--device {name}: not on this machine, which has {here}")
    return name


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 where the device multiplies it faster than float32, else float32."""
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    has = torch.cpu.get_capabilities()
    if device == "cpu" and (has.get("avx512_bf16") or has.get("amx_tile")):
        return torch.bfloat16
    return torch.float32


def seed_everything(seed: int) -> None:
    """Same seed, same machine, same bits: seed torch, and hold GPUs to deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As torch.use_deterministic_algorithms(True, warn_only=True), which imports torch._inductor: 800 modules.
    torch.set_deterministic_debug_mode("warn")
    # Memory that is about to be written is not filled before: nothing reads it, and a step pays 7% for it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.manual_seed(seed)
