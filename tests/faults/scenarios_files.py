"""Files and folders that are complete or absent."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness import Scenario

from personality_common.files import staging
from personality_common.files.atomic import clear_unfinished, write_json
from personality_common.files.staging import staged_folder

FILES = ("sub/a", "sub/b", "c")


def nothing(folder: Path) -> None:
    pass


def build(folder: Path, text: str) -> None:
    with staged_folder(folder / "target") as new:
        (new / "sub").mkdir()
        for name in FILES:
            (new / name).write_text(text * 1000)


def build_without_swap(folder: Path, text: str) -> None:
    """As where the file system cannot swap two names."""
    staging._exchange = lambda first, second: False  # in a child, and for it alone
    build(folder, text)


def kill_between_renames(folder: Path) -> None:
    build(folder, "1")
    aside = folder / ".target.partial"
    (aside / "new").mkdir(parents=True)
    (folder / "target").rename(aside / "old")


def build_again(folder: Path, found: object) -> str:
    build(folder, "3")
    return "3"


def text_of(target: Path) -> str:
    """Which text a folder is built of; "" where there is none."""
    if not target.exists():
        return ""
    content = {p.relative_to(target).as_posix(): p.read_text() for p in target.rglob("*") if p.is_file()}
    text = content["c"][0]
    assert content == dict.fromkeys(FILES, text * 1000), f"mixed: {[(n, c[:3]) for n, c in content.items()]}"
    return text


def built(folder: Path) -> str:
    return text_of(folder / "target")


def kept(folder: Path) -> str:
    """As `built`; between two renames, what the next command puts back."""
    return built(folder) or text_of(folder / ".target.partial" / "old")


def beside(name: str, folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name != name]


def staged(
    name: str,
    prepare: Callable[[Path], None],
    operate: Callable[[Path, str], None],
    state: Callable[[Path], str],
) -> Scenario:
    rest = partial(beside, "target")
    return Scenario(name, prepare, lambda folder: operate(folder, "2"), state, build_again, rest)


def write(folder: Path, text: str) -> None:
    write_json(folder / "file.json", text * 1000)


def written(folder: Path) -> str:
    return (folder / "file.json").read_text() if (folder / "file.json").exists() else ""


def clear(folder: Path, found: object) -> object:
    clear_unfinished(folder)
    return found


def made(name: str, prepare: Callable[[Path], None]) -> Scenario:
    rest = partial(beside, "file.json")
    return Scenario(name, prepare, partial(write, text="2"), written, clear, rest)


SCENARIOS = [
    staged("folder made", nothing, build, built),
    staged("folder replaced", partial(build, text="1"), build, built),
    staged("folder replaced without swap", partial(build, text="1"), build_without_swap, kept),
    staged("folder mended, replaced", kill_between_renames, build, kept),
    made("file made", nothing),
    made("file replaced", partial(write, text="1")),
]
