"""A model in which everything is small but the vocabulary, so that a command of any family takes a moment.

Imported before all that takes the dimensions from the contract. What fails under the commands is their files;
what they compute is as it is, but for the text encoder, the converter, the picture of the learning curve and
the order in which latents are computed, which take long and write nothing of ours.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from personality_common import contract

vars(contract).update(MINILM_DIM=24, EMBEDDING_DIM=32, LATENT_DIM=16)

import torch  # noqa: E402
from hash_encoder import HashEncoder  # noqa: E402

from personality_common.files.atomic import atomic_writer  # noqa: E402
from pretrain.data.conversations import DataConfig  # noqa: E402
from pretrain.personality import model, pipeline  # noqa: E402
from pretrain.personality.config import PretrainConfig  # noqa: E402

vars(model).update(FFN_DIM=16)
torch.set_num_threads(1)

TEXTS: Final = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
State = TypeVar("State")
_KEPT: Final = tempfile.TemporaryDirectory(prefix="faults-inputs.")
INPUTS: Final = Path(_KEPT.name)
"""What commands read, and must not change."""


def encoder(*_: object, **__: object) -> HashEncoder:
    return HashEncoder(dim=contract.MINILM_DIM)


def _drawn(*arguments: Any) -> None:
    with atomic_writer(arguments[-1]) as file:
        file.write(b"a picture")


vars(pipeline).update(load_encoder=encoder, draw_learning_curve=_drawn)


@cache
def texts(lines: int) -> str:
    """The fixture's first lines, as a file."""
    path = INPUTS / f"{lines}.jsonl"
    path.write_text("".join(TEXTS.read_text().splitlines(keepends=True)[:lines]))
    return str(path)


def train(run: Path, seed: int, resume: bool = False) -> None:
    """`pt pretrain`; which runs were made here is noted beside the run."""
    os.environ["XDG_STATE_HOME"] = str(run.parent / "state")
    pipeline.pretrain(
        PretrainConfig(
            DataConfig(texts(6)), run, epochs=1, start="plain", device="cpu", val_fraction=0.3, seed=seed,
            resume=resume,
            overwrite=True,
        )
    )  # fmt: skip


@cache
def trained(seed: int) -> Path:
    """A run among the inputs."""
    train(INPUTS / f"run-{seed}" / "run", seed)
    return INPUTS / f"run-{seed}" / "run"


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def undisturbed(
    operate: Callable[[Path], None], state: Callable[[Path], State]
) -> Callable[[], tuple[State, set[str]]]:
    """What a command leaves in an empty folder where nothing fails, and the names of it; found out once."""

    @cache
    def find() -> tuple[State, set[str]]:
        with tempfile.TemporaryDirectory(dir=INPUTS) as folder:
            operate(Path(folder))
            return state(Path(folder)), names(Path(folder))

    return find


def beyond(folder: Path, expected: Sequence[set[str]]) -> list[str]:
    """Names in a folder that are in none of the sets."""
    return sorted(names(folder).difference(*expected))
