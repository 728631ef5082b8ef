"""`make bench` and `make bench-compare` on toy benchmarks, each in a git repository of its own."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

TOY = "import json, toy\nprint(json.dumps({'ratios': toy.RATIOS}))\n"
SPEEDS = "RATIOS = {{'toy speed': {}, 'toy recall': 0.9}}\n"
LOGGED = (
    "import json, os, pathlib, toy\n"
    "log = pathlib.Path(os.environ['TOY_LOG'])\n"
    "print(toy.SIDE, file=log.open('a'))\n"
    "turn = log.read_text().split().count(toy.SIDE) - 1\n"
    "print(json.dumps({'ratios': {'toy speed': toy.TURNS[min(turn, len(toy.TURNS) - 1)]}}))\n"
)


class Repository:
    """A repository with the runner of this one, and benchmarks `bench_NAME.py` that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.scratch = folder / "repository", folder / "scratch"
        self.scratch.mkdir()
        # No identity or settings of whoever runs the tests; COLUMNS so that no table line is cut.
        identity = {
            f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        self.environment = inherited | identity | {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.scratch),
            "TOY_LOG": str(folder / "log"),
            "COLUMNS": "200",
        }  # fmt: skip
        self.log = folder / "log"
        self.write({".gitignore": "ignored\nbenchmarks.json\n"})
        for file in ("suite.py", "run.py", "compare.py"):
            shutil.copy(HERE / file, self.bench(file))
        self.git("init", "--quiet", "--initial-branch", "main")

    def bench(self, file: str) -> Path:
        path = self.tree / "tests" / "benchmarks" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, files: dict[str, str | None]) -> None:
        """Write files, bench_*.py in their folder; None removes one."""
        for name, text in files.items():
            path = self.bench(name) if name.startswith("bench_") else self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink() if text is None else path.write_text(text)

    def commit(self, **files: str | None) -> None:
        self.write({f"{name}.py": text for name, text in files.items()})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "one more")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.tree), *arguments]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=self.environment
        ).stdout

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.bench(script)), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str) -> tuple[int, str, str]:
        process = self.start(script, *arguments)
        printed, said = process.communicate(timeout=60)
        assert "Traceback" not in said, said
        assert not list(self.scratch.iterdir())
        return process.returncode, printed, said

    def compare(self, *arguments: str) -> tuple[int, str, str]:
        return self.run("compare.py", *arguments)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_suite", HERE / "suite.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def verdicts(printed: str) -> dict[str, str]:
    """Name of a ratio -> verdict, from the table: two blanks part its columns."""
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in printed.splitlines()[1:]]
    return {cells[0].removeprefix("toy ") if len(cells) < 2 else cells[1]: cells[-1] for cells in lines}


def test_every_benchmark_of_the_list_has_a_script(suite: ModuleType) -> None:
    assert len(set(suite.BENCHMARKS)) == len(suite.BENCHMARKS) >= 5
    for name in suite.BENCHMARKS:
        assert suite.script_of(ROOT, name).is_file()


@pytest.mark.parametrize(
    ("head", "code", "verdict"),
    [(1.6, 1, "dropped"), (1.69, 1, "dropped"), (1.7, 0, "ok"), (1.8, 0, "ok"), (2.6, 0, "ok")],
)
def test_a_drop_of_more_than_15_percent_fails(
    repository: Repository, head: float, code: int, verdict: str
) -> None:
    repository.commit(bench_toy=TOY, toy=SPEEDS.format(2.0))
    repository.commit(toy=SPEEDS.format(head))
    status, printed, said = repository.compare("--base", "HEAD~1", "toy")
    assert status == code
    assert verdicts(printed) == {"toy speed": verdict, "toy recall": "ok"}
    assert f"{head / 2 - 1:+.1%}" in printed
    assert ("failed: toy: toy speed dropped by more than 15%" in said) == (code == 1)
    assert "toy recall" not in said


@pytest.mark.parametrize(
    ("head", "code", "order"),
    [
        ([1.0, 2.0, 2.0], 0, "head base base head head base"),
        ([1.0, 1.1, 2.0], 0, "head base base head head base base head head base"),
        ([1.0, 1.1], 1, "head base base head head base base head head base base head head base"),
        ([1.0], 1, "head base base head"),
    ],
)
def test_rounds_alternate_and_medians_count(
    repository: Repository, head: list[float], code: int, order: str
) -> None:
    repository.commit(bench_toy=LOGGED, toy="SIDE, TURNS = 'base', [2.0]\n")
    repository.commit(toy=f"SIDE, TURNS = 'head', {head}\n")
    status, _, _ = repository.compare("--base", "HEAD~1", "toy")
    assert repository.log.read_text().split() == order.split()
    assert status == code


def test_a_ratio_of_one_side_only(repository: Repository) -> None:
    repository.commit(bench_toy=TOY, toy="RATIOS = {'stays': 1, 'leaves': 1}\n")
    repository.commit(toy="RATIOS = {'stays': 1}\n")
    repository.commit(toy="RATIOS = {'stays': 1, 'comes': 1}\n")
    status, printed, said = repository.compare("--base", "HEAD~1", "toy")
    assert (status, verdicts(printed)) == (0, {"stays": "ok", "comes": "new"})
    status, printed, said = repository.compare("--base", "HEAD~2", "toy")
    assert (status, verdicts(printed)) == (1, {"stays": "ok", "comes": "new", "leaves": "gone"})
    assert "failed: toy: leaves is gone" in said


def test_a_benchmark_of_one_side_only(repository: Repository) -> None:
    suite = repository.bench("suite.py")
    listed = (
        suite.read_text().split("BENCHMARKS: Final = (")[0] + "BENCHMARKS: Final = ('toy', 'fresh')\nROOT"
    )
    suite.write_text(listed + suite.read_text().split("\nROOT", 1)[1])
    repository.commit(bench_toy=TOY, bench_old=TOY, toy=SPEEDS.format(2.0))
    repository.commit(bench_fresh="import fresh\n" + TOY, fresh="")
    status, printed, said = repository.compare("--base", "HEAD~1")
    assert status == 0
    assert "fresh: new; on the base, bench_fresh.py exits with 1: ModuleNotFoundError" in said
    assert [line.split()[-1] for line in printed.splitlines()[1:]] == ["ok", "ok", "new", "new"]
    repository.commit(bench_old=None)
    status, _, said = repository.compare("--base", "HEAD~1")
    assert status == 1
    assert "failed: old: gone" in said


def test_a_script_that_crashes_fails_by_name_and_the_others_go_on(repository: Repository) -> None:
    repository.commit(bench_toy=TOY, bench_bad=TOY, toy=SPEEDS.format(2.0))
    repository.commit(bench_bad="raise RuntimeError('no such luck')\n")
    status, printed, said = repository.compare("--base", "HEAD~1", "bad", "toy")
    assert status == 1
    assert "failed: bad: bench_bad.py exits with 1: RuntimeError: no such luck" in said
    assert verdicts(printed) == {"toy speed": "ok", "toy recall": "ok"}


def test_the_base_runs_its_own_script_where_this_one_fails(repository: Repository) -> None:
    repository.commit(bench_toy="print('{}')\n", toy="")
    repository.commit(bench_toy=TOY, toy=SPEEDS.format(2.0))
    renamed = TOY.replace("RATIOS", "RENAMED")
    repository.commit(bench_toy=renamed, toy="RENAMED = {'toy speed': 1.5, 'toy recall': 0.9}\n")
    status, printed, said = repository.compare("--base", "HEAD~1", "toy")
    assert (status, verdicts(printed)) == (1, {"toy speed": "dropped", "toy recall": "ok"})
    assert "toy: the base runs its own script, for on the base's packages this tree's bench_toy.py" in said
    status, _, said = repository.compare("--base", "HEAD~2", "toy")
    assert status == 1
    assert "failed: toy: cannot be compared" in said
    assert "has no attribute 'RENAMED'" in said
    assert "must print an object with `ratios`" in said


def state(repository: Repository) -> dict[str, Any]:
    """All files, git's own included, with contents and times."""
    files = [path for path in repository.tree.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_working_tree_is_compared_and_left_as_it_is(repository: Repository) -> None:
    repository.commit(bench_toy=TOY, toy=SPEEDS.format(2.0))
    repository.write({"toy.py": SPEEDS.format(1.9), "untracked.py": "RATIOS = 0\n", "ignored": "as it is"})
    repository.git("add", "toy.py")
    repository.write({"toy.py": "from untracked import RATIOS\n", "untracked.py": SPEEDS.format(1.0)})
    before = state(repository)
    status, printed, said = repository.compare("--base", "HEAD", "toy")
    assert (status, verdicts(printed)) == (1, {"toy speed": "dropped", "toy recall": "ok"})
    assert "changes that are not committed: the working tree is compared" in said
    assert state(repository) == before


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing_behind(repository: Repository, kind: signal.Signals) -> None:
    waits = (
        "import os, pathlib, subprocess, sys, tempfile, time\n"
        "tempfile.mkdtemp()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "log = pathlib.Path(os.environ['TOY_LOG'])\n"
        "log.with_suffix('.new').write_text(f'{os.getpid()} {child.pid}')\n"
        "log.with_suffix('.new').rename(log)\n"
        "time.sleep(60)\n"
    )
    repository.commit(bench_toy=waits)
    repository.commit(other="")
    before = state(repository)
    process = repository.start("compare.py", "--base", "HEAD~1", "toy")
    while not repository.log.exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(kind)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "interrupted"
    assert not list(repository.scratch.iterdir())
    assert state(repository) == before
    assert len(repository.git("worktree", "list").splitlines()) == 1
    for pid in map(int, repository.log.read_text().split()):
        assert not is_running(pid)


def is_running(pid: int) -> bool:
    """Whether a process runs; the killed child of a killed parent may stay a zombie for whoever reaps it."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(shown.strip()) and not shown.strip().startswith("Z")


def test_default_base(repository: Repository) -> None:
    def base() -> str:
        status, _, said = repository.compare("toy")
        assert status == 0, said
        return said.splitlines()[0].split()[1]

    def short(name: str) -> str:
        return repository.git("rev-parse", "--short", name).strip()

    repository.commit(bench_toy=TOY, toy=SPEEDS.format(2.0))
    repository.commit(other="")
    assert base() == short("HEAD~1")
    repository.write({"other.py": "x = 1\n"})
    assert base() == short("HEAD")
    repository.git("switch", "--quiet", "--create", "branch")
    repository.commit()
    repository.commit(more="")
    assert base() == short("main") == short("HEAD~2")


@pytest.mark.parametrize("name", ["no-such-commit", "HEAD~9", "0123456789abcdef0123456789abcdef01234567", ""])
def test_a_base_that_is_no_commit(repository: Repository, name: str) -> None:
    repository.commit(bench_toy=TOY, toy=SPEEDS.format(2.0))
    status, printed, said = repository.compare(f"--base={name}", "toy")
    assert (status, printed) == (2, "")
    assert said.splitlines() == [
        f"error: BASE must be a commit of this repository, {name or 'HEAD~1'!r} is none"
    ]


def test_a_benchmark_that_does_not_exist(repository: Repository) -> None:
    repository.commit(bench_toy=TOY, toy=SPEEDS.format(2.0))
    for script in ("run.py", "compare.py"):
        status, _, said = repository.run(script, "tyo")
        assert status == 2
        assert said.startswith("error: no benchmark 'tyo'; there are ")


def test_run_writes_benchmarks_json(repository: Repository) -> None:
    repository.commit(
        bench_toy=TOY, bench_bad="import sys; sys.exit('out of luck')\n", toy=SPEEDS.format(2.0)
    )
    status, printed, said = repository.run("run.py", "bad", "toy")
    assert status == 1
    assert "error: bench_bad.py exits with 1: out of luck" in said
    assert verdicts(printed) == {"toy speed": "2", "toy recall": "0.9"}
    written = json.loads((repository.tree / "benchmarks.json").read_text())
    assert written["benchmarks"]["toy"]["ratios"] == {"toy speed": 2.0, "toy recall": 0.9}
    assert written["benchmarks"]["bad"]["error"] == "bench_bad.py exits with 1: out of luck"
    assert written["commit"] == repository.git("rev-parse", "HEAD").strip()
    assert written["dirty"] is False
    assert written["machine"]["cores"] == os.cpu_count()
    assert {"cpu", "load_average", "torch"} <= set(written["machine"])
    repository.write({"toy.py": SPEEDS.format(3.0)})
    status, printed, _ = repository.run("run.py", "toy")
    assert (status, verdicts(printed)) == (0, {"toy speed": "3", "toy recall": "0.9"})
    assert json.loads((repository.tree / "benchmarks.json").read_text())["dirty"] is True


@pytest.mark.parametrize(
    ("printed", "says"),
    [
        ("", "one JSON object"),
        ('{"ratios": {"a": 1}}\n{"ratios": {"a": 1}}', "one JSON object"),
        ("[1]", "an object with `ratios`"),
        ('{"ratio": {"a": 1}}', "an object with `ratios`"),
        ('{"ratios": {}}', "an object with `ratios`"),
        ('{"ratios": {"a": 1, "b": 0}}', "'b' is 0"),
        ('{"ratios": {"a": -0.1}}', "'a' is -0.1"),
        ('{"ratios": {"a": NaN}}', "'a' is nan"),
        ('{"ratios": {"a": Infinity}}', "'a' is inf"),
        ('{"ratios": {"a": "3"}}', "'a' is 3"),
        ('{"ratios": {"a": true}}', "'a' is True"),
    ],
)
def test_what_a_script_may_not_print(suite: ModuleType, printed: str, says: str) -> None:
    with pytest.raises(suite.BenchmarkError) as caught:
        suite.parse("bench_toy.py", printed)
    assert says in str(caught.value)
    assert "bench_toy.py" in str(caught.value)
