"""`pt diff` in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mil_specs
import pytest

from personality_common.cli import main
from personality_common.inspection.comparing import compare_paths
from personality_common.inspection.difference import ModelDifference


@pytest.fixture
def diff(tmp_path: Path) -> Callable[[Any, Any], ModelDifference]:
    """Of two protobufs."""

    def run(a: Any, b: Any) -> ModelDifference:
        first, second = mil_specs.save(tmp_path / "a.mlmodel", a), mil_specs.save(tmp_path / "b.mlmodel", b)
        (found,) = compare_paths(first, second).models
        return found

    return run


@pytest.fixture
def pt_diff(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Exit code, stdout and stderr of `pt diff`."""

    def run(*arguments: object, columns: int = 200) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as end:
            main(["diff", *map(str, arguments)])
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return run
