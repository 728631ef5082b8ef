"""A bundle, and updates of its head as PyTorch makes them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from device_sim.heads.shipped import shipped_head
from device_sim.routes.route import HeadUpdate
from grpo.head import Head
from personality_common.bundle.bundle import Bundle, open_bundle
from pretrain.personality.rules.family import PERSONALITY
from pretrain.personality.run import Run, load_run

LOSS = torch.nn.functional.binary_cross_entropy_with_logits


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run(openai_run: Path) -> Run:
    return load_run(openai_run)


@pytest.fixture(scope="session")
def bundle(openai_bundle: Path) -> Bundle:
    return open_bundle(openai_bundle, PERSONALITY)


@pytest.fixture(scope="session")
def embeddings() -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.nn.functional.normalize(torch.randn(70, 1536, generator=draw), dim=-1)


@pytest.fixture(scope="session")
def latents(run: Run, embeddings: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return run.model.backbone(embeddings)


@pytest.fixture(scope="session")
def make_update(bundle: Bundle, latents: torch.Tensor) -> Callable[..., HeadUpdate]:
    """Train the shipped head with an optimizer of torch, on a loss that is no MSE."""

    def make(optimizer: str, rows: int = 12, steps: int = 4, before: Head | None = None) -> HeadUpdate:
        before = before or shipped_head(bundle)
        weight, bias = (tensor.clone().requires_grad_() for tensor in before)
        made = {
            "sgd": lambda: torch.optim.SGD([weight, bias], 5.0),
            "momentum": lambda: torch.optim.SGD([weight, bias], 2.0, momentum=0.9),
            "adam": lambda: torch.optim.Adam([weight, bias], 1e-3),
        }[optimizer]()
        targets = torch.rand(rows, 325, generator=torch.Generator().manual_seed(5))
        for _ in range(steps):
            made.zero_grad()
            LOSS(latents[:rows] @ weight.T + bias, targets).backward()
            made.step()
        return HeadUpdate(before, Head(weight.detach(), bias.detach()), latents[:rows])

    return make


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    return lambda folder: {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture
def noise() -> np.random.Generator:
    return np.random.default_rng(11)
