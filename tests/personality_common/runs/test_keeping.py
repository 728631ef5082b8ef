"""Which state of a run is kept, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from personality_common.errors import ToolkitError
from personality_common.files.atomic import write_json
from personality_common.runs.checkpoints import Checkpoint, Checkpoints, Retention
from personality_common.runs.folder import hold_run
from personality_common.runs.keeping import choose, start_of, take_back


def history(*losses: float) -> list[dict[str, Any]]:
    return [{"epoch": i, "val_loss": loss} for i, loss in enumerate(losses)]


def test_the_best_is_kept_or_the_last_and_it_is_said_where_they_differ() -> None:
    fine = choose(history(3.0, 2.0, 1.0), "epoch", "best")
    assert (fine.index, fine.sentence, fine.record()) == (2, None, {"epoch": 2, "of": 2})
    start = choose(history(1.0, 1.000001, 3.0), "epoch", "best")
    assert start.record() == {"epoch": 0, "of": 2}
    assert start.sentence == (
        "the start was better than the end: held-out loss 1 at the start, 3 after epoch 2; the start is kept;"
        " --keep last takes the end"
    )
    ended = choose(history(1.0, 0.5, 0.500002), "epoch", "last")
    assert ended.record() == {"epoch": 2, "of": 2}
    assert ended.sentence == (
        "it was better before the end: held-out loss 0.5 after epoch 1, 0.500002 after epoch 2; the end is"
        " kept; --keep best takes the other"
    )
    assert choose(history(1.0, 0.5, 0.5000001), "epoch", "best").is_last, "of equals the later"


@pytest.mark.parametrize(("losses", "kept"), [((3, 1, 2), 1), ((1, 3, 2), 0), ((3, 2, 1), 2)])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_module_has_the_state_that_is_kept(
    losses: tuple[float, ...], kept: int, keep: Any, tmp_path: Path
) -> None:
    module = torch.nn.Linear(2, 2)
    checkpoints = Checkpoints(tmp_path, "epoch", "valloss", Retention(last=1))
    start = start_of(module, keep)
    states = [module.weight.detach().clone()]
    for epoch, loss in list(enumerate(losses))[1:]:
        with torch.no_grad():
            module.weight += 1
        states.append(module.weight.detach().clone())
        checkpoints.save(Checkpoint(epoch, {"epoch": epoch}, []), loss, module, [])
    take_back(choose(history(*losses), "epoch", keep), module, start, checkpoints)
    assert torch.equal(module.weight, states[kept if keep == "best" else -1])


def test_a_finished_run_is_overwritten_only_when_asked(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {})
    with (
        pytest.raises(ToolkitError, match="holds a finished run; add --overwrite"),
        hold_run(tmp_path, False),
    ):
        pass
    for resume, overwrite in ((True, False), (False, True)):
        with hold_run(tmp_path, resume, overwrite):
            pass
