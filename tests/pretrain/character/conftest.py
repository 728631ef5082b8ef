from pathlib import Path

import pytest

from personality_common.terminal.progress import Silent
from pretrain.character.config import DataConfig, TrainConfig
from pretrain.character.generation import generate_data
from pretrain.character.pipeline import train_character


@pytest.fixture(scope="session")
def character_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """450 examples of schema v2."""
    out = tmp_path_factory.mktemp("character") / "data"
    generate_data(DataConfig(out, examples=450), Silent())
    return out


@pytest.fixture(scope="session")
def character_run(character_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six epochs on them: trained, if not well."""
    run = tmp_path_factory.mktemp("character") / "run"
    train_character(TrainConfig(character_data, run, epochs=6, batch_size=64), Silent())
    return run
