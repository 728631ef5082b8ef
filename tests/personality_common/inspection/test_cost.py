"""What a prediction costs: against hands, another counter, and what a package itself says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from personality_common.coreml.package import Package
from personality_common.coreml.values import TensorType
from personality_common.errors import DataError
from personality_common.inspection.cli import inspect
from personality_common.inspection.cost import Cost, OpCost, cost_of, stored_size


def of(path: Path) -> Cost:
    return cost_of(Package.open(path))


def test_a_small_network_by_hand(packages: dict[str, Path]) -> None:
    """(1, 16) -> linear -> (1, 32) -> relu -> layer_norm -> linear -> (1, 16), float32."""
    found = of(packages["mlp.mlpackage"])
    assert found.shapes == {"embedding": (1, 16)}
    assert [op.type for op in found.ops] == ["linear", "relu", "layer_norm", "linear"]
    first, relu, norm, second = ([*vars(op).values()][2:] for op in found.ops)
    # Multiply-adds, operations, read, weights, written, live.
    assert first == [16 * 32, 2 * 16 * 32 + 32, 4 * 16, 4 * (16 * 32 + 32), 4 * 32, 4 * (16 + 32)]
    assert norm == [0, 32, 4 * 32, 4 * 2 * 32, 4 * 32, 4 * (32 + 32)]
    assert relu == [0, 32, 4 * 32, 0, 4 * 32, 4 * (32 + 32)]
    assert second == [32 * 16, 2 * 32 * 16 + 16, 4 * 32, 4 * (32 * 16 + 16), 4 * 16, 4 * (32 + 16)]
    assert (found.multiply_adds, found.operations) == (1024, 2160)
    assert (found.read, found.weights, found.written, found.peak) == (448, 4544, 448, 256)
    assert found.moved == 448 + 4544 + 448
    assert found.uncounted == {}


def test_what_is_still_needed_is_alive(minilm_bundle: Path) -> None:
    """In a block the residual, 512 numbers, waits while 2048 become 2048."""
    assert of(minilm_bundle / "PersonalityModel.mlpackage").peak == 4 * (512 + 2048 + 2048)


def test_the_model_as_torch_counts_it(minilm_bundle: Path) -> None:
    from pretrain.personality.model import PersonalityModel

    model = PersonalityModel().eval()
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model.head(model.backbone(torch.zeros(1, 1536)))
    found = of(minilm_bundle / "PersonalityModel.mlpackage")
    # torch counts two for each multiply-add, queries and keys too, if they are computed; and no bias.
    assert counter.get_total_flops() == 2 * found.multiply_adds
    assert found.weights == 4 * 6_207_813


def test_the_text_encoder_as_torch_counts_it(minilm_bundle: Path) -> None:
    from personality_common.text.bert_folder import read_bert_shape
    from personality_common.text.encoder import find_minilm
    from pretrain.personality.text_encoder import TextEncoder

    with torch.device("meta"):
        encoder = TextEncoder(read_bert_shape(find_minilm()[0]))
        ids = torch.ones(1, 128, dtype=torch.int32)
        counter = FlopCounterMode(display=False)
        with counter:
            encoder(ids, ids)
    found = of(minilm_bundle / "TextEncoder.mlpackage")
    assert found.shapes["input_ids"] == (1, 128)
    assert counter.get_total_flops() == 2 * found.multiply_adds
    # Of the table of words 128 rows are read, of that of positions 128 of 256.
    table = next(op for op in found.ops if op.type == "gather" and op.written == 4 * 128 * 384)
    assert table.weights == pytest.approx(128 * 384, rel=0.05)  # 8 bits, and a share of the scales
    assert found.uncounted == {}


def test_networks_and_pipelines(packages: dict[str, Path], openai_bundle: Path) -> None:
    (head,) = of(openai_bundle / "PersonalityHead.mlpackage").ops
    assert head == OpCost(
        "projection", "innerProduct", 512 * 325, 2 * 512 * 325 + 325, 2048, 4 * 513 * 325, 1300, 3348
    )
    whole, parts = (of(openai_bundle / f"PersonalityModel{name}.mlpackage") for name in ("", "Updatable"))
    assert parts.multiply_adds == whole.multiply_adds
    assert parts.ops[-1].name.endswith(".projection")
    assert len(parts.ops) == len(whole.ops)
    state = of(openai_bundle / "PersonalityModelStateful.mlpackage")
    assert state.multiply_adds == whole.multiply_adds
    assert state.weights == whole.weights - 4 * 513 * 325
    with pytest.raises(DataError, match="costs are counted of programs and networks, this is treeEnsemble"):
        of(packages["trees.mlmodel"])


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", (2, 3), 24), ("float16", (3,), 6), ("int4", (3,), 2), ("bool", (5,), 5), ("string", (), 0)],
)
def test_bytes_as_they_are_stored(dtype: str, shape: tuple[int, ...], size: int) -> None:
    assert stored_size(TensorType(dtype, shape), shape) == size


def run(*arguments: object, columns: int = 200) -> Any:
    runner = CliRunner(env={"COLUMNS": str(columns)})
    return runner.invoke(inspect, [str(a) for a in arguments])


def test_the_command(packages: dict[str, Path], openai_bundle: Path) -> None:
    path = packages["mlp.mlpackage"]
    found = json.loads(run(path, "--cost", "--json").stdout)["cost"]
    assert (found["multiply_adds"], found["peak"], len(found["ops"])) == (1024, 256, 4)
    assert json.loads(run(path, "--json").stdout)["cost"] is None
    shown = run(path, "--cost").stdout
    assert "multiply-adds  1,024" in shown
    assert "peak memory    256 B beside the weights" in shown
    assert "Cost" not in run(path).stdout
    table = run(openai_bundle, "--cost", columns=80).stdout
    assert "6,195,712" in table
    assert max(map(len, table.split("Cost of one prediction")[1].splitlines())) <= 80
    # What cannot be counted is said, and the rest of a folder is shown.
    refused = run(packages["trees.mlmodel"], "--cost")
    assert isinstance(refused.exception, DataError)
