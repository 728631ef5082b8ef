"""Which package may import which: one direction, families apart, no circles."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import grimp
import pytest

from personality_common.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PACKAGES = ("personality_common", "pretrain", "grpo", "device_sim")
BELOW = {
    "personality_common": (),
    "pretrain": ("personality_common", "grpo"),
    "grpo": ("personality_common",),
    "device_sim": ("personality_common", "pretrain", "grpo"),
}
SHARED = ("data", "coreml")
"""Rooms of `pretrain` that every family may use; each other folder is a family."""
FAMILIES = sorted(
    p.name for p in (ROOT / "pretrain").iterdir() if (p / "__init__.py").is_file() and p.name not in SHARED
)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """All imports, those inside of functions too."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def edges(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    modules = sorted(m for m in graph.modules if m.split(".")[0] in PACKAGES)
    return [(a, b) for a in modules for b in sorted(graph.find_modules_directly_imported_by(a))]


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def circles(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan's strongly connected components)."""
    after: dict[str, set[str]] = {}
    for a, b in pairs:
        after.setdefault(a, set()).add(b)
        after.setdefault(b, set())
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in after[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in after:
        if node not in index:
            visit(node)
    return found


def test_circles_are_found() -> None:
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]
    assert circles([("a", "b"), ("a", "c"), ("b", "c")]) == []


def test_packages_import_in_one_direction(graph: grimp.ImportGraph) -> None:
    wrong = [
        (a, b)
        for a, b in edges(graph)
        if (top := b.split(".")[0]) in PACKAGES
        and top != a.split(".")[0]
        and top not in BELOW[a.split(".")[0]]
    ]
    assert wrong == []


def test_families_know_nothing_of_one_another(graph: grimp.ImportGraph) -> None:
    assert "personality" in FAMILIES
    wrong = [
        (a, b)
        for a, b in edges(graph)
        for family in FAMILIES
        if within(b, f"pretrain.{family}")
        and within(a, "pretrain")
        and not within(a, f"pretrain.{family}")
        and a not in ("pretrain", "pretrain.__main__")
    ]
    assert wrong == []


def test_shared_code_names_no_family() -> None:
    named = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "personality_common").rglob("*.py")
        if path.name != "cli.py"  # the table of commands
        and re.search(r"\b(pretrain|device_sim|grpo)\.\w", path.read_text())
    ]
    assert named == []


def test_interpreter_uses_neither_the_exporter_nor_torch(graph: grimp.ImportGraph) -> None:
    wrong = [
        (a, b)
        for a, b in edges(graph)
        if within(a, "device_sim.mil") and b.split(".")[0] in ("pretrain", "grpo", "torch", "coremltools")
    ]
    assert wrong == []


@pytest.mark.parametrize("module", ["cli", "generation", "prediction"])
def test_what_needs_no_torch_does_not_import_it(module: str) -> None:
    """Its import takes longer than a thousand generated examples."""
    script = f"import sys, pretrain.character.{module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


SLOW = (
    "IPython", "PIL", "coremltools", "datasets", "gguf", "huggingface_hub", "matplotlib", "onnx",
    "onnxruntime", "openai", "pandas", "pyarrow", "scipy", "sentence_transformers", "sklearn", "sympy",
    "tensorboard", "torch._dynamo", "transformers", "wandb",
)  # fmt: skip
"""Each would add from a twentieth of a second to ten to the start of a command."""


def imported_by_commands() -> list[str]:
    """What the functions of every `cli.py` import: what a command has read by its first line, and more."""
    found: set[str] = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("cli.py")):
        functions = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef))
        nodes = [node for function in functions for node in ast.walk(function)]
        found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return sorted(found)


def test_commands_begin_without_what_is_slow() -> None:
    """Nor does an optimizer bring it, as those of `torch.optim` do, or a seed."""
    script = (
        "import importlib, sys\n"
        "for module in sys.argv[2:]:\n"
        "    importlib.import_module(module)\n"
        "    if slow := sorted(set(sys.argv[1].split()) & sys.modules.keys()):\n"
        "        sys.exit(f'{module} imports {slow}')\n"
        "import torch\n"
        "from personality_common.runs.device import seed_everything\n"
        "from personality_common.runs.optimizers import adamw\n"
        "seed_everything(0)\n"
        "weight = torch.nn.Parameter(torch.ones(2))\n"
        "optimizer = adamw([weight], device='cpu', lr=0.1)\n"
        "weight.sum().backward()\n"
        "optimizer.step()\n"
        "print(weight[0].item() < 1, torch.are_deterministic_algorithms_enabled(),\n"
        "      sorted(set(sys.argv[1].split()) & sys.modules.keys()))"
    )
    modules = imported_by_commands()
    assert {
        "pretrain.personality.pipeline",
        "pretrain.personality.export.bundle",
        "pretrain.lm.pipeline",
        "pretrain.character.pipeline",
        "device_sim.fleet.fleet",
        "device_sim.simulate.simulation",
    } <= set(modules)
    command = [sys.executable, "-c", script, " ".join(SLOW), *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True True []\n", "")


def test_judge_borrows_nothing_from_the_exporter(graph: grimp.ImportGraph) -> None:
    wrong = [
        (a, b)
        for a, b in edges(graph)
        for family in FAMILIES
        if within(a, "device_sim") and within(b, f"pretrain.{family}.export")
    ]
    assert wrong == []


@pytest.mark.parametrize("depth", [2, 3, 4, 9], ids=["rooms", "folders", "deeper", "modules"])
def test_no_circles(graph: grimp.ImportGraph, depth: int) -> None:
    def room(module: str) -> str:
        return ".".join(module.split(".")[:depth])

    pairs = [(room(a), room(b)) for a, b in edges(graph) if b.split(".")[0] in PACKAGES]
    assert circles((a, b) for a, b in pairs if a != b) == []


def test_every_command_is_there() -> None:
    for name, (place, _) in COMMANDS.items():
        module, attribute = place.split(":")
        command: Callable[..., object] = getattr(importlib.import_module(module), attribute)
        assert getattr(command, "name", None) == name


def test_file_names_say_what_is_in_them() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "common.py", "base.py", "misc.py"}
    assert [p for package in PACKAGES for p in (ROOT / package).rglob("*.py") if p.name in vague] == []
