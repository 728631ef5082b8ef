"""The work folder: one fleet's, complete files, and pieces of work that one process holds."""

import dataclasses
from pathlib import Path

import pytest
import warm

from device_sim.fleet.fleet import missing_devices
from device_sim.fleet.plan import Plan, read_plan, texts_sha256, write_plan
from device_sim.fleet.proof import simulate_command
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from personality_common.errors import DataError, MismatchError


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        folder=tmp_path / "fleet",
        bundle=Path("/bundles/a b"),
        bundle_sha256="0" * 64,
        data="texts.jsonl",
        texts_sha256=texts_sha256(["a", "b"]),
        run=Path("/runs/demo"),
        devices=200,
        user="2*profile+1*thumbs:answers=0.3",
        learner="grpo",
        nights=NightsConfig(nights=3, seed=5),
        grpo=GRPOConfig(kl_stop=None, learning_rate=3.0),
        chunk=64,
    )


def test_a_plan_is_read_back_and_taken_up_again(plan: Plan) -> None:
    write_plan(plan)
    assert read_plan(plan.folder) == plan
    write_plan(plan)
    assert [plan.devices_of(chunk) for chunk in range(plan.chunks)] == [
        range(64), range(64, 128), range(128, 192), range(192, 200),
    ]  # fmt: skip


def test_another_fleet_is_refused(plan: Plan) -> None:
    write_plan(plan)
    other = dataclasses.replace(plan, devices=300, grpo=dataclasses.replace(plan.grpo, kl_stop=0.3))
    message = "devices is 200 there, 300 here; grpo.kl_stop is None there, 0.3 here; take another --out"
    with pytest.raises(MismatchError, match=message):
        write_plan(other)
    assert read_plan(plan.folder) == plan


def test_a_folder_with_other_files_is_refused(plan: Plan) -> None:
    plan.folder.mkdir()
    (plan.folder / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match="has other files"):
        write_plan(plan)


@pytest.mark.parametrize("text", ["{}", '{"schema": 3, "grpo": {"reward_weights": []}}', "[]"])
def test_what_is_no_plan(plan: Plan, text: str) -> None:
    plan.folder.mkdir()
    (plan.folder / "plan.json").write_text(text)
    with pytest.raises(DataError, match=r"plan\.json"):
        read_plan(plan.folder)


def test_missing_devices_are_named_in_ranges(plan: Plan) -> None:
    write_plan(plan)
    assert missing_devices(plan) == "0-199"
    for chunk in (1, 3):
        plan.chunk_file(chunk).parent.mkdir(exist_ok=True)
        plan.chunk_file(chunk).write_text("{}")
    assert missing_devices(plan) == "0-63, 128-191"
    assert missing_devices(dataclasses.replace(plan, devices=193, chunk=64)) == "0-63, 128-191"
    assert missing_devices(dataclasses.replace(plan, devices=257, chunk=64)) == "0-63, 128-191, 256"


def test_a_claim_is_one_process_s_and_ends_with_it(plan: Plan, tmp_path: Path) -> None:
    write_plan(plan)
    program = tmp_path / "claim.py"
    program.write_text(
        "import sys; from pathlib import Path; from device_sim.fleet.plan import read_plan\n"
        "with read_plan(Path(sys.argv[1])).claim_chunk(int(sys.argv[2])) as mine: print(mine)"
    )

    def elsewhere(chunk: int) -> str:
        done = warm.run([program, plan.folder, chunk])
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    with plan.claim_chunk(2) as mine:
        assert mine
        assert elsewhere(2) == "False"
        assert elsewhere(3) == "True"
    assert elsewhere(2) == "True"


def test_the_command_of_a_device(plan: Plan) -> None:
    thumbs = plan.kind_of.index(1)
    assert simulate_command(plan, thumbs) == (
        "pt simulate '/bundles/a b' --data texts.jsonl --run /runs/demo --user thumbs:answers=0.3 --nights 3"
        f" --interactions 50 --seed {5 + thumbs} --learning-rate 3.0 --kl-stop none"
    )
