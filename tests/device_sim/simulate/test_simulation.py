"""What a simulation leaves behind, what it says, and what it does when it is stopped."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
import torch

import personality_common.cli as cli
from device_sim.heads.heads import open_heads
from device_sim.heads.learning import read_learning
from device_sim.simulate.config import HELD_OUT_FRACTION
from device_sim.simulate.drift import Example, TokenShift
from device_sim.simulate.figures import figures, write_feedback_log
from device_sim.simulate.html import report
from device_sim.simulate.rendering import reasons
from device_sim.simulate.simulation import Simulation, simulate_phone
from device_sim.simulate.texts import choose_texts
from device_sim.users.nights import NightsConfig
from grpo.config import GRPOConfig
from grpo.events import EVENT_REWARDS
from grpo.feedback import read_feedback
from personality_common.errors import ConfigError, DataError
from personality_common.evidence.provenance import Provenance
from personality_common.files.tensors import load_tensors
from personality_common.terminal.progress import SILENT
from pretrain.data.split import is_validation

ROOT = Path(__file__).parents[3]
TEXTS = str(ROOT / "fixtures" / "conversations.jsonl")
Run = Callable[..., Simulation]


def pt(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`pt …` in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["pt", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


SMALL = ("--nights", 2, "--interactions", 8, "--group", 4, "--inner-iterations", 3, "--gate", "none")


def test_all_routes_through_the_command_line(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page, numbers, junit = (tmp_path / name for name in ("out", "r.html", "r.json", "r.xml"))
    arguments = ("simulate", bundle, "--user", "profile", "--data", TEXTS, "--route", "all", *SMALL)
    code = pt(monkeypatch, *arguments, "--out", out, "--html", page, "--json", numbers, "--junit", junit)
    assert code == 0, capsys.readouterr()
    printed = capsys.readouterr().out
    assert "✗" not in printed
    assert printed.count("✓ passed") == 8
    document = json.loads(numbers.read_text())
    schema = ROOT / "device_sim" / "simulate" / "simulation.schema.json"
    jsonschema.validate(document, json.loads(schema.read_text()))
    assert document["passed"] is True
    (suite,) = ElementTree.parse(junit).getroot()
    assert [(case.attrib["name"], len(case.findall("failure"))) for case in suite.iter("testcase")] == [
        (check["name"], 0) for check in document["checks"]
    ]
    assert "pt simulate" in page.read_text()
    assert [check["status"] for check in document["checks"]] == ["passed"] * 8
    assert [check["route"] for check in document["nights"][1]["routes"]] == ["patch", "update-task", "state"]
    assert json.loads((out / "simulation.json").read_text()) == document
    assert page.read_text() == (out / "report.html").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "r.html", "r.json", "r.xml"]

    # Read with NumPy alone: the kept package holds the store's active head, and is the shipped one elsewhere.
    shipped = bundle / "PersonalityModel.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    kept = out / "packages/patch/PersonalityModel.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    before, after = (np.frombuffer(file.read_bytes(), np.uint8).copy() for file in (shipped, kept))
    store = open_heads(out / "heads")
    head = store.load(store.active)
    assert len(store.versions()) == 3
    manifest = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["packages"]["model"]["tensors"]:
        place = slice(entry["offset"], entry["offset"] + entry["size"])
        if entry["updatable"]:
            tensor = head.weight if entry["name"] == "projection.weight" else head.bias
            assert after[place].tobytes() == tensor.numpy().tobytes()
            before[place] = after[place] = 0
    assert (before == after).all()


def test_the_log_has_no_text_unless_asked(run_small: Run, tmp_path: Path) -> None:
    result = run_small()
    texts = [text for day in result.days for text in day.texts]
    assert len(set(texts)) == 16
    write_feedback_log(tmp_path / "plain.jsonl", result)
    logged = (tmp_path / "plain.jsonl").read_text() + json.dumps(figures(result))
    assert not [text for text in texts if json.dumps(text)[1:-1] in logged]
    asked = replace(result, config=replace(result.config, keep_texts=True))
    write_feedback_log(tmp_path / "texts.jsonl", asked)
    feedback = read_feedback(tmp_path / "texts.jsonl", result.bundle.vocabulary.tokens)
    assert [i.text for i in feedback.interactions] == texts
    actions = torch.cat([day.groups.actions for day in result.days])
    assert torch.equal(feedback.groups().actions, actions)


def test_held_out_texts_are_never_trained_on() -> None:
    first, second = choose_texts(TEXTS, 100, 0), choose_texts(TEXTS, 100, 1)
    assert first.training != second.training
    for chosen in (first, second):
        assert len(chosen.training) == 100
        assert not any(is_validation(text, HELD_OUT_FRACTION) for text in chosen.training)
        assert all(is_validation(text, HELD_OUT_FRACTION) for text in chosen.held_out)
    with pytest.raises(DataError, match=r"must have 5000 distinct texts to train on"):
        choose_texts(TEXTS, 5000, 0)


def test_same_seed_same_head(run_small: Run) -> None:
    first, second = (run_small().nights[-1].delivery.head for _ in range(2))
    assert all(a.numpy().tobytes() == b.numpy().tobytes() for a, b in zip(first, second, strict=True))


def test_random_user_is_the_negative_control(run_small: Run) -> None:
    result = run_small(user="random")
    claims = {check.name: check.status for check in result.checks}
    assert claims["drift within budget"] == "passed"
    assert claims["drift within budget"] == "passed"


def test_feedback_is_replayed_and_grpo_does_the_same_first_night(
    run_small: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lived = run_small(keep_texts=True)
    log = tmp_path / "feedback.jsonl"
    write_feedback_log(log, lived)
    replayed = run_small(feedback=log)
    assert len(replayed.nights) == 2
    reward = next(check for check in replayed.checks if check.name == "reward on held-out texts rose")
    assert reward.status == "not judged"
    schema = ROOT / "device_sim" / "simulate" / "simulation.schema.json"
    jsonschema.validate(figures(replayed), json.loads(schema.read_text()))
    assert replayed.passed, replayed.checks
    first = "".join(log.read_text().splitlines(keepends=True)[:8])
    (tmp_path / "first.jsonl").write_text(first)
    command = (
        "grpo",
        bundle,
        "--feedback",
        tmp_path / "first.jsonl",
        "--inner-iterations",
        3,
        "--gate",
        "none",
    )
    assert pt(monkeypatch, *command, "--out", tmp_path / "head.safetensors") == 0
    tensors, metadata = load_tensors(tmp_path / "head.safetensors")
    expected = replayed.nights[0].update.head
    # Not bit-identical: eight texts go through the backbone here, sixteen there.
    torch.testing.assert_close(tensors["projection.weight"], expected.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(tensors["output_bias"], expected.bias, atol=1e-6, rtol=0)
    assert metadata["vocabulary_fingerprint"] == lived.bundle.vocabulary.fingerprint
    assert json.loads(metadata["settings"])["inner_iterations"] == 3


def test_grpo_from_a_run_agrees_with_the_bundle(
    bundle: Path, openai_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's latents come from PyTorch, the bundle's from its package: heads differ by rounding.

    One reads rewards, the other the events that are worth them.
    """
    rows = np.random.default_rng(0).standard_normal((4, 1536)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    file, acted = tmp_path / "feedback.jsonl", tmp_path / "events.jsonl"
    with file.open("w") as out, acted.open("w") as events:
        for i, row in enumerate(rows):
            candidates = [
                {"tokens": ["curious", "calm"], "reward": 1.0},
                {"tokens": ["shy", "bold"], "reward": 0.0},
            ]
            line = {"id": str(i), "base_embedding": row.tolist(), "candidates": candidates}
            out.write(json.dumps(line) + "\n")
            silent = [candidate | {"reward": None} for candidate in candidates]
            events.write(json.dumps(line | {"candidates": silent}) + "\n")
            for number, event in enumerate(("regenerated", "shown")):
                events.write(json.dumps({"event": event, "of": str(i), "candidate": number}) + "\n")
    heads = []
    head, worth = tmp_path / "head", ("--rewards", "regenerated=1,shown=0")
    for model, *read in (
        (bundle, file), (bundle, acted, *worth),
        (openai_run, file), (openai_run, acted, *worth),
    ):  # fmt: skip
        command = ("grpo", model, "--feedback", *read, "--gate", "none", "--overwrite", "--out", head)
        assert pt(monkeypatch, *command) == 0
        heads.append(load_tensors(head)[0])
    for name in ("projection.weight", "output_bias"):
        # Latents agree to 1e-6; twelve steps of rate 30 scale that at most a hundredfold.
        torch.testing.assert_close(heads[0][name], heads[2][name], atol=1e-4, rtol=0)
        assert torch.equal(heads[0][name], heads[1][name])
        assert torch.equal(heads[2][name], heads[3][name])
    again = ("grpo", bundle, "--feedback", file, "--gate", "none", "--out", head)
    assert pt(monkeypatch, *again) == 2
    before = load_tensors(head)[0]
    # The same feedback from where the first update ended.
    assert pt(monkeypatch, *again, "--overwrite", "--start", head) == 0
    assert not torch.equal(load_tensors(head)[0]["output_bias"], before["output_bias"])
    assert pt(monkeypatch, *again, "--overwrite", "--start", head, "--learner", "posterior") == 2


def test_a_replay_reads_events_as_asked(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(*_: object, rewards: object, **__: object) -> None:
        asked.append(rewards)
        raise DataError("enough")

    monkeypatch.setattr("device_sim.simulate.lives.read_feedback", read)
    for spec in (None, "copied=2"):
        with pytest.raises(DataError, match="enough"):
            simulate_phone(small(feedback=tmp_path, rewards=spec), SILENT).__enter__()
    assert asked == [EVENT_REWARDS, {**EVENT_REWARDS, "copied": 2.0}]


def test_ctrl_c_leaves_what_was_there(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import device_sim.simulate.lives as module

    out, page = tmp_path / "out", tmp_path / "r.html"
    out.mkdir()
    (out / "simulation.json").write_text("earlier")
    page.write_text("earlier")
    calls = []
    measure = vars(module)["measure_drift"]

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(module, "measure_drift", interrupted)
    arguments = ("simulate", bundle, "--user", "profile", "--data", TEXTS, *SMALL)
    assert pt(monkeypatch, *arguments, "--out", out, "--html", page) == 130
    assert [p.name for p in out.iterdir()] == ["simulation.json"]
    assert (out / "simulation.json").read_text() == page.read_text() == "earlier"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "r.html"]


def test_out_is_not_taken_from_others(small: Any, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text("")
    with pytest.raises(ConfigError, match="must be a new folder or an earlier simulation"):
        simulate_phone(small(out=tmp_path), SILENT).__enter__()
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --feedback FILE and --user SIMULATOR"),
        (("--user", "profile"), "--user needs --data"),
        (("--user", "nobody", "--data", "x"), "nobody"),
        (("--user", "random", "--data", "x", "--clip-low", "2"), "clip_low must be at most 1"),
        (("--user", "random", "--data", "x", "--loss", "ppo"), "--loss"),
        (
            ("--user", "random", "--data", "x", "--rewards", "copied=1"),
            "--rewards is for events of a --feedback",
        ),
        (("--user", "random", "--data", "x", "--nights", "0"), "nights must be 1 or more"),
    ],
)
def test_wrong_usage(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pt(monkeypatch, "simulate", str(tmp_path), *arguments) == 2
    assert message in capsys.readouterr().err


def test_options_are_the_dataclasses_own(
    monkeypatch: pytest.MonkeyPatch, small: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from device_sim.simulate.cli import simulate as command

    options = {parameter.name: parameter for parameter in command.params}
    for config in (GRPOConfig(), NightsConfig()):
        for name, value in vars(config).items():
            if name in ("reward_weights", "reward_aggregation"):
                assert name not in options
                continue
            found = options[name]
            assert getattr(found, "help", ""), name
            if name == "advantage_scale":  # left out, what the loss asks for
                assert found.default is value is None
                continue
            parsed = found.type.convert(str(found.default), found, None)
            assert parsed == value or (parsed is None and value is None), name


def test_random_texts_cannot_break_the_page(run_small: Run, made: Provenance) -> None:
    """Texts, tokens and file names are data: nothing in the page is loaded or run."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
    result = replace(
        run_small(),
        examples=(Example(evil, (evil,), (evil, "calm")),),
        shifts=(TokenShift(evil, 0.25, 0.5),),
    )
    page = report(result, made)

    class Tags(HTMLParser):
        found: list[tuple[str, dict[str, str | None]]] = []  # noqa: RUF012
        text = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.append((tag, dict(attrs)))

        def handle_data(self, data: str) -> None:
            self.text += data

    tags = Tags()
    tags.feed(page)
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "img", "link", "iframe", "object"})
    for _, attributes in tags.found:
        assert not {"src", "href", "onerror", "onload"} & set(attributes)
    assert tags.text.count(evil) == 4
    assert "http" not in page.replace("http-equiv", "")
    assert "url(" not in page
    assert "@import" not in page


def test_an_update_that_moves_nothing_makes_no_version(run_small: Run, small: Any, tmp_path: Path) -> None:
    """The gate is closed after 16 reactions; a budget without room leaves nothing of an update either."""
    shut = GRPOConfig(inner_iterations=3)
    with simulate_phone(small(grpo=shut, out=tmp_path / "out"), SILENT) as (result, folder):
        assert [night.delivery.version for night in result.nights] == [None, None]
        assert [version.version for version in open_heads(folder / "heads").versions()] == [
            open_heads(folder / "heads").active
        ]
        # What the learner has heard is not lost.
        store = open_heads(folder / "heads")
        kept = read_learning(folder / "learning.safetensors", store.load(store.active))
        assert kept.learned.since.contrasts + kept.learned.before.contrasts > 0
    said = reasons(result)
    assert [reason[:48] for reason in said] == [
        f"night {n} made no version, the head is as it was: "[:48] for n in (1, 2)
    ]
    assert all("gate: closed" in reason for reason in said)
    rolled = next(check for check in result.checks if check.id == "rolled-back")
    assert (rolled.status, rolled.detail[:24]) == ("passed", "no update made a version")
    assert [night["version"] for night in figures(result)["nights"]] == [None, None]
    none = run_small(learner="grpo", grpo=GRPOConfig(inner_iterations=3, gate=None, kl_budget=1e-12))
    assert [night.delivery.version for night in none.nights] == [None, None]
    assert "made no version" in reasons(none)[0]
