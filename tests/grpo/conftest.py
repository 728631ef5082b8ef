"""Shared by the tests of grpo/."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tensors here are tiny, and workers of one machine would fight over its cores."""
    torch.set_num_threads(1)
