"""`pt chat` answers with the adapter that its store's nights made active, and says so."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_sim.adapters.adapter import Adapter
from device_sim.adapters.gguf import write_gguf
from device_sim.adapters.learned import create_adapters
from device_sim.companion.events import Session
from device_sim.companion.log import read_events
from personality_common.cli import main
from personality_common.registry.record import Gate, Record

Make = Callable[..., Adapter]


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """An answer to "Hello", what was said besides, and the exit code."""

    def run(model: Path, *arguments: object) -> tuple[str, str, object]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hello\n")))
        capfd.readouterr()
        words = ["chat", "--store", tmp_path / "store", "--model", model, "--no-memory", "--max-tokens", 6,
                 "--temperature", 0, "--verbose", *arguments]  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return (*capfd.readouterr(), stop.value.code)

    return run


def make_night(store: Path, base: Path, adapter: Adapter) -> str:
    registry = create_adapters(store, base)
    record = Record(
        registry.pointers().identity,
        "2026-01-02T03:04:05+00:00",
        (registry.active,),
        gates=(Gate("g", True),),
    )
    version = registry.add(adapter, record)
    registry.activate(version)
    return version


def test_the_active_adapter_answers_and_none_switches_it_off(
    chat: Any, tmp_path: Path, tiny_llama: Path, make_adapter: Make
) -> None:
    plain, said, code = chat(tiny_llama)
    assert code == 0
    assert "adapter" not in said
    version = make_night(tmp_path / "store", tiny_llama, make_adapter())
    answer, said, _ = chat(tiny_llama)
    assert answer != plain
    assert f"adapter {version} is on; --adapter none answers without it" in said
    off, said, _ = chat(tiny_llama, "--adapter", "none")
    assert off == plain
    assert " is on" not in said
    write_gguf(make_adapter(), tmp_path / "none")
    given, said, _ = chat(tiny_llama, "--adapter", tmp_path / "none")
    assert given == answer
    assert "adapter none is on" in said
    models = [e.body.model for e in read_events(tmp_path / "store" / "events") if isinstance(e.body, Session)]
    assert models == ["tiny", f"tiny+{version}", "tiny", "tiny+none"]


def test_another_model_answers_without_it(
    chat: Any, tmp_path: Path, tiny_llama: Path, make_tiny_llama: Any, make_adapter: Make
) -> None:
    other = make_tiny_llama(tmp_path / "other.gguf", seed=1)
    chat(tiny_llama)
    make_night(tmp_path / "store", tiny_llama, make_adapter())
    _, said, code = chat(other)
    assert (code, " is on" in said) == (0, False)


def test_refusals_are_one_line(
    chat: Any, tmp_path: Path, tiny_llama: Path, make_tiny_llama: Any, make_adapter: Make
) -> None:
    other = make_tiny_llama(tmp_path / "other.gguf", seed=1)
    write_gguf(make_adapter(), tmp_path / "tonight.gguf")
    for model, adapter, code, words in (
        (tiny_llama, tmp_path / "absent.gguf", 2, "--adapter must be none or a GGUF file"),
        (tiny_llama, other, 3, "must be an adapter, a LoRA in GGUF"),
        (other, tmp_path / "tonight.gguf", 3, "must be of the base that it is served with, other.gguf"),
        ("http://127.0.0.1:9/v1", tmp_path / "tonight.gguf", 2, "a server by URL loads its own"),
    ):
        _, err, found = chat(model, "--adapter", adapter)
        assert (found, words in err) == (code, True), err
        assert err.splitlines()[-1].startswith(("error: ", "pt chat: "))
