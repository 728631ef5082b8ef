"""Several processes train what one does, and take up where one stopped."""

import json
import multiprocessing
import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from personality_common.errors import ConfigError
from personality_common.runs.processes import Processes, join_processes
from personality_common.terminal.progress import Silent
from pretrain.lm.config import TrainConfig
from pretrain.lm.pipeline import train_lm
from pretrain.lm.run import WEIGHTS_FILE

PATIENCE = 120


class Stops(Silent):
    """Interrupts training when it says where the second measurement is: after step 16 of 24."""

    def __init__(self) -> None:
        self.left = 17 * 8 * 128

    def advance(self, done: int, figures: object = None) -> None:
        # Documents are counted by the hundred, tokens by the step.
        self.left -= done if done == 8 * 128 else 0
        if self.left < 0:
            raise KeyboardInterrupt


def work(rank: int, port: int, config: TrainConfig) -> None:
    """What torchrun would start; forked, since importing torch takes longer than all the rest."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with join_processes() as processes:
        train_lm(config, Silent(), processes)


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has loaded torch")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_two_processes_end_what_one_began(
    train_config: TrainConfig, trained_run: Path, tmp_path: Path
) -> None:
    """From step 16 on; what they end with is what one ends with, but for rounding."""
    config = replace(train_config, output_dir=tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train_lm(config, Stops())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    jobs = [fork.Process(target=work, args=(rank, port, replace(config, resume=True))) for rank in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(PATIENCE)
    assert [job.exitcode for job in jobs] == [0, 0]
    ours, alone = (load_file(run / WEIGHTS_FILE) for run in (config.output_dir, trained_run))
    assert ours.keys() == alone.keys()
    apart = max(float(np.abs(ours[name] - alone[name]).max()) for name in alone)
    assert apart < 1e-5, apart
    record = json.loads((config.output_dir / "run.json").read_text())
    assert record["plan"]["resumed_with"] == [{"processes": 2}]
    # Each measured a part of what is measured on.
    expected = json.loads((trained_run / "run.json").read_text())["quality"]
    for key in ("val_loss", "train_loss"):
        assert record["quality"][key] == pytest.approx(expected[key], rel=1e-5)


def test_each_process_needs_a_row(train_config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must give each of 9 processes a row, got 8"):
        train_lm(replace(train_config, output_dir=tmp_path / "run"), Silent(), Processes(0, 9))
