"""A good bundle passes; what is asked for is what is compared; reports are complete and safe."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import warm

from device_sim.parity import text_path
from device_sim.parity.compare import check_parity
from device_sim.parity.config import ParityConfig
from device_sim.parity.page import page
from device_sim.parity.report import Report, to_json
from personality_common.bundle.bundle import open_bundle
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.evidence.provenance import Provenance
from personality_common.terminal.progress import SILENT
from pretrain.personality.rules.family import PERSONALITY

PACKAGES = {
    "PersonalityModel.mlpackage",
    "PersonalityModelUpdatable.mlpackage",
    "PersonalityHead.mlpackage",
    "PersonalityModelStateful.mlpackage",
}
ROOT = Path(__file__).parents[3]
HOSTILE_TEXT = '<script>alert("x")</script> & <img src="http://example.com/a.png">'


@pytest.fixture(scope="module")
def report(bundle: Path, run_folder: Path) -> Report:
    return check_parity(ParityConfig(bundle, run=run_folder), SILENT)


def test_passes(report: Report) -> None:
    assert report.passed, report.failures
    assert {c.package for c in report.comparisons} == PACKAGES
    used = [r.name for r in report.runtimes if r.unavailable is None]
    assert used[:2] == ["torch", "mil"]
    assert {"mil / torch", "mil / golden", "torch / golden"} <= {c.runtimes for c in report.checks}
    for package in PACKAGES:
        inputs = {c.inputs for c in report.comparisons if c.package == package}
        assert {"golden", "batch 1", "hostile: NaN", "hostile: infinity", "hostile: denormals"} <= inputs
    sizes = {
        c.inputs: c.measures.rows for c in report.comparisons if c.package == "PersonalityModel.mlpackage"
    }
    assert [sizes[f"batch {n}"] for n in (1, 2, 63, 64)] == [1, 2, 63, 64]


def test_nan_stays_in_its_row(report: Report) -> None:
    """Two of four rows are spoilt; the others are compared as ever."""
    spoilt = [c for c in report.comparisons if c.inputs in ("hostile: NaN", "hostile: infinity")]
    assert spoilt
    for record in spoilt:
        assert record.measures.nonfinite == 0
        assert record.measures.max_abs is not None
        assert record.measures.worst_row in (1, 3)


def test_depth(report: Report) -> None:
    points = report.depth["PersonalityModel.mlpackage"]
    assert [p.op for p in points].count("gelu") == 2
    layers = [p.layer for p in points if p.torch is not None]
    assert layers[0] == "input_projection"
    assert layers[-1] == "projection"
    assert all(0 <= p.rounding < 1e-5 for p in points)
    assert any(p.rounding > 0 for p in points), "float32 and float64 differ"


def test_without_a_run(bundle: Path) -> None:
    found = check_parity(ParityConfig(bundle, runtimes=("mil", "torch")), SILENT)
    assert found.passed, found.failures
    assert found.reference == "packages"


def test_mil_alone_is_compared_with_golden(small: Path) -> None:
    found = check_parity(ParityConfig(small, runtimes=("mil",)), SILENT)
    assert {c.runtimes for c in found.checks} == {"", "mil / golden"}
    assert found.passed


def test_another_run_is_refused(make_run: Callable[..., Path], bundle: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", encoder="openai", seed=1)
    with pytest.raises(MismatchError, match=r"--run must be the run that .* was made from"):
        check_parity(ParityConfig(bundle, run=other), SILENT)


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML is available here")
def test_a_runtime_that_is_asked_for_must_be_there(bundle: Path) -> None:
    with pytest.raises(ToolkitError, match="--runtimes coreml is not available here: Core ML runs on macOS"):
        check_parity(ParityConfig(bundle, runtimes=("mil", "coreml")), SILENT)


def test_tolerances_are_tightened(small: Path) -> None:
    tight = ParityConfig(small, ("mil", "torch"), tolerances=(("float32.logits", 1e-12),))
    found = check_parity(tight, SILENT)
    assert {(c.bound, c.limit) for c in found.failures} == {("<=", 1e-12)}
    with pytest.raises(ConfigError, match=r"can only be tightened: the manifest has <= 0\.0001, got 0\.01"):
        check_parity(ParityConfig(small, tolerances=(("float32.logits", 0.01),)), SILENT)
    with pytest.raises(ConfigError, match=r"must name one of float32\.latent"):
        check_parity(ParityConfig(small, tolerances=(("logits", 0.01),)), SILENT)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"runtimes": ("tflite",)}, "--runtimes must be of"),
        ({"runtimes": ()}, "--runtimes must name"),
        ({"samples": 0}, "--samples must be 1 or more"),
        ({"compute_units": "tpu"}, "--compute-units"),
        ({"data": "x.jsonl"}, "--data needs --run"),
    ],
)
def test_config(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ParityConfig(Path("b"), **change)  # type: ignore[arg-type]


def test_a_manifest_cannot_lead_out(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["packages"]["head"]["tensors"][0]["file"] = "../../../../etc/passwd"
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"must stay inside of it, got '\.\./\.\./\.\./\.\./etc/passwd'"):
        check_parity(ParityConfig(small, ("mil",)), SILENT)
    manifest["packages"]["head"]["file"] = "/etc"
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="no part of a bundle is called 'head' and is in '/etc'"):
        open_bundle(small, PERSONALITY)
    manifest["packages"].pop("head")
    manifest["golden"] = "../golden.json"
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="must stay inside of it"):
        open_bundle(small, PERSONALITY)


@pytest.mark.parametrize("text", ["{}", '{"schema": 1}', '{"schema": 9}', "[]", "{"])
def test_malformed_manifests(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json"):
        open_bundle(tmp_path, PERSONALITY)


def test_a_package_that_does_not_load_is_a_failure(small: Path) -> None:
    program = small / "PersonalityModel.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    program.write_bytes(program.read_bytes()[:-100])
    found = check_parity(ParityConfig(small, ("mil", "torch")), SILENT)
    assert ("PersonalityModel.mlpackage", "mil", "loads") in {
        (c.package, c.runtimes, c.name) for c in found.failures
    }
    assert not [c for c in found.failures if c.package == "PersonalityHead.mlpackage"]


class Outline(HTMLParser):
    """Collects tags, attributes and text; what is not closed stays open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "rect", "line", "circle", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("meta", "rect", "line", "circle", "path", "polyline"):
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def with_texts(minilm_run: Path, minilm_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """MiniLM, and a hostile text in the data."""
    folder = tmp_path_factory.mktemp("minilm")
    texts = [HOSTILE_TEXT, "I love the sea.", "no"]
    record = {"conversations": [{"from": "human", "value": text} for text in texts]}
    (folder / "data.jsonl").write_text(json.dumps(record) + "\n")
    config = ParityConfig(minilm_bundle, ("torch", "mil"), minilm_run, data=str(folder / "data.jsonl"))
    return check_parity(config, SILENT)


def test_texts_are_compared(with_texts: Report) -> None:
    assert with_texts.passed, with_texts.failures
    assert with_texts.texts == 3
    rows = {(c.package, c.measures.rows) for c in with_texts.comparisons if c.inputs == "texts"}
    assert rows == {("PersonalityModel.mlpackage", 3), ("TextEncoder.mlpackage", 3)}


def test_from_text_to_top_8(with_texts: Report) -> None:
    """Against the golden tokens, what these weights give, and PyTorch on the user's texts."""
    found = {(c.id, c.runtimes): c for c in with_texts.checks if c.id.startswith("text.")}
    kinds = ("overlap", "worst", "first")
    assert set(found) == {
        *((f"text.{kind}", runtimes) for kind in kinds for runtimes in ("mil / golden", "mil / torch")),
        ("text.shipped", "mil / golden"),
    }
    assert all(check.passed and check.measured and check.measured < 1.01 for check in found.values())


def test_the_text_path_by_hand() -> None:
    settings = SimpleNamespace(encoder_weights="int8", precision="float32")
    bundle: Any = SimpleNamespace(
        manifest=SimpleNamespace(settings=settings), tolerances={t.name: t for t in PERSONALITY.tolerances}
    )
    golden = np.array([range(8), range(8)])
    top = np.array([[1, 0, 2, 3, 4, 5, 6, 9], range(8)])
    found = {c.id: c for c in text_path._judged(bundle, top, text_path.Wanted("golden", golden, top), "x")}
    assert {id: check.measured for id, check in found.items()} == {
        "text.overlap": 15 / 16, "text.worst": 7 / 8, "text.first": 0.5, "text.shipped": 1.0
    }  # fmt: skip
    assert [id for id, check in found.items() if check.failed] == ["text.overlap", "text.first"]
    (line,) = text_path.told(list(found.values()))
    assert line == "x: 0.9375 of the top 8, at worst 0.875; first token 50%"
    old = list(text_path._judged(bundle, top, text_path.Wanted("golden", golden), "x"))
    assert [check.status for check in old] == ["not judged"]
    assert list(text_path.told(old)) == [
        "x: not judged: the bundle is of an earlier version; export it again"
    ]


def test_the_text_encoder(with_texts: Report) -> None:
    """The mirror is sentence-transformers itself, on token ids: what encoded the golden texts."""
    own = [c for c in with_texts.comparisons if c.package == "TextEncoder.mlpackage"]
    (mirror,) = [
        c.measures
        for c in own
        if (c.value, c.reference, c.feature, c.inputs) == ("torch", "golden", "sentence_embedding", "golden")
    ]
    assert mirror.max_abs is not None
    assert mirror.max_abs < 1e-5  # one text at a time, or many: float32 sums in another order
    checks = {(c.runtimes, c.name) for c in with_texts.checks if c.package == "TextEncoder.mlpackage"}
    assert ("mil / torch", "sentence_embedding: mean cosine") in checks
    assert ("mil / mil", "padding does not change sentence_embedding") in checks
    assert ("", "tensors are the run's") in checks


def quoting(report: Report) -> Report:
    """Which texts are the worst is a matter of rounding; here all of them are the hostile one."""
    examples = tuple(dataclasses.replace(example, text=HOSTILE_TEXT) for example in report.examples)
    return dataclasses.replace(report, examples=examples)


def test_the_page_is_self_contained_and_escaped(with_texts: Report, made: Provenance) -> None:
    text = page(quoting(with_texts), made)
    outline = Outline()
    outline.feed(text)
    assert outline.open == []
    assert not outline.tags & {"script", "img", "link", "iframe", "object"}
    assert outline.links == []
    assert HOSTILE_TEXT in outline.text
    assert {"svg", "table", "figure"} <= outline.tags
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_json_has_no_texts(with_texts: Report) -> None:
    assert with_texts.examples
    assert all(example.text for example in with_texts.examples)
    text = json.dumps(to_json(quoting(with_texts)), allow_nan=False)
    assert "alert" not in text
    assert all("text" not in example for example in to_json(with_texts)["examples"])
    assert json.loads(text)["passed"] is True


def test_json_follows_its_schema(report: Report, with_texts: Report) -> None:
    names = ("fleet/fleet", "parity/parity", "simulate/simulation")
    documents = [json.loads((ROOT / f"device_sim/{name}.schema.json").read_text()) for name in names]
    assert all(schema["$defs"]["check"] == documents[0]["$defs"]["check"] for schema in documents)
    for found in (report, with_texts):
        # As it is read: tuples are lists.
        jsonschema.validate(json.loads(json.dumps(to_json(found))), documents[1])
    assert len({(c.id, c.package, c.runtimes) for c in report.checks}) == len(report.checks)


def test_a_failure_s_figures_are_numbers(small: Path, made: Provenance) -> None:
    """The page draws the limit that the check has; nothing reads it out of a sentence."""
    found = check_parity(
        ParityConfig(small, ("mil", "torch"), tolerances=(("float32.logits", 3e-5),)), SILENT
    )
    (record, *_) = [r for r in found.worst() if r.feature == "logits"]
    assert found.limit(record) == 3e-5
    assert "limit 3e-05" in page(found, made)
    assert not [r for r in found.worst() if r.inputs.startswith("hostile")]
    assert {r.hostile for r in found.comparisons if r.inputs.startswith("hostile")} == {True}


def pt(*arguments: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
    return warm.run([*warm.PT, "parity", *arguments], env={**os.environ, "COLUMNS": str(columns)})


def test_command(small: Path, tmp_path: Path) -> None:
    files = [f"--{kind}={tmp_path / 'r'}.{kind}" for kind in ("json", "html", "junit")]
    done = pt(str(small), "--runtimes", "mil,torch", *files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("parity holds")
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is True
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert "pt parity" in (tmp_path / "r.html").read_text()
    (suite,) = ElementTree.parse(tmp_path / "r.junit").getroot()
    assert len(suite.findall("testcase")) == len(json.loads((tmp_path / "r.json").read_text())["checks"])


def test_command_fails(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small / "personality-tokens.json").write_text((small / "personality-tokens.json").read_text() + " ")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    done = pt(str(small), "--runtimes", "mil", "--json", str(tmp_path / "r.json"), columns=200)
    assert done.returncode == 1, done.stderr
    assert "\n::error title=pt parity%3A files have the sizes" in f"\n{done.stdout}"
    assert "personality-tokens.json has another size" in done.stdout
    assert done.stdout.rstrip().endswith("parity fails")
    assert json.loads((tmp_path / "r.json").read_text())["passed"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{tmp}"], 3, "must be a bundle"),
        (["{tmp}", "--tolerance", "a"], 2, "NAME=VALUE"),
        (["{tmp}", "--runtimes", "x"], 2, "--runtimes"),
        (["{tmp}", "--data", "x"], 2, "--data needs --run"),
    ],
)
def test_command_errors_are_one_line(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    done = pt(*[argument.format(tmp=tmp_path) for argument in arguments])
    assert done.returncode == code
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def leaves(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    if isinstance(value, dict):
        return [path, *(leaf for k, v in value.items() for leaf in leaves(v, (*path, k)))]
    if isinstance(value, list):  # entries of a list are alike
        return [path, *(leaf for i, v in enumerate(value[:1]) for leaf in leaves(v, (*path, i)))]
    return [path]


def test_a_manifest_may_hold_anything(small: Path) -> None:
    """Every place of it, filled with something else in turn: an answer or a clean error."""
    from device_sim.parity.integrity import integrity_checks

    good = (small / "manifest.json").read_text()
    manifest = json.loads(good)
    manifest["files"] = dict(list(manifest["files"].items())[:1])
    manifest["versions"], manifest["not_computed"] = {}, {"tensors": [], "reason": ""}
    places = [path for path in leaves(manifest) if path]
    assert len(places) > 100
    for number, path in enumerate(places):
        broken = json.loads(json.dumps(manifest))
        *parents, last = path
        holder = broken
        for key in parents:
            holder = holder[key]
        holder[last] = [None, -1, "x", [], {"a": 1}][number % 5]
        (small / "manifest.json").write_text(json.dumps(broken))
        try:
            checks = list(integrity_checks(open_bundle(small, PERSONALITY), None))
        except (ToolkitError, OSError):
            continue
        assert not all(check.passed for check in checks), "a file is not in the manifest any more"
