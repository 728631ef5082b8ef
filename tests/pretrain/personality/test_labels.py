"""Training on labels, and evaluating by them, with an encoder that stands in for MiniLM."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

import pretrain.personality.evaluation as evaluation
import pretrain.personality.pipeline as pipeline
from personality_common.errors import ConfigError, DataError, MismatchError
from personality_common.evidence.provenance import Provenance
from personality_common.files.atomic import read_json_object, write_json
from personality_common.terminal.progress import SILENT
from personality_common.vocabulary import load_vocabulary
from pretrain.data.conversations import DataConfig
from pretrain.personality.config import EvaluateConfig, PretrainConfig
from pretrain.personality.evaluation_report import figures, page
from pretrain.personality.labels import LabelMix
from pretrain.personality.run import load_run

LABELS = ("calm", "sad", "joyful")
SCHEMA = read_json_object(Path(evaluation.__file__).with_name("evaluation.schema.json"))


def encoder_of(hash_encoder: Any) -> Any:
    class Kinds(hash_encoder):  # type: ignore[misc]
        """A text's first word moves its vector, so that there is something to learn."""

        def vector(self, text: str) -> Any:
            mixed = super().vector(text) + 1.5 * super().vector(text.split()[0])
            return (mixed / np.linalg.norm(mixed)).astype(np.float32)

    return Kinds()


def records(first: int, last: int) -> list[dict[str, Any]]:
    kinds = ("aaa", "bbb", "ccc")
    return [{"text": f"{kinds[i % 3]} text {i}", "tokens": [LABELS[i % 3]]} for i in range(first, last)]


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def config(tmp_path: Path, hash_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> PretrainConfig:
    monkeypatch.setattr(pipeline, "load_encoder", lambda *_: encoder_of(hash_encoder))
    monkeypatch.setattr(evaluation, "load_run_encoder", lambda *_: encoder_of(hash_encoder))
    data = write(tmp_path / "data.jsonl", [*records(0, 90), *({"text": f"plain {i}"} for i in range(120))])
    return PretrainConfig(
        DataConfig(str(data)), tmp_path / "run", epochs=1, batch_size=64, val_fraction=0.2, device="cpu"
    )


def weights(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.glob("*.safetensors")}


def test_without_weight_labels_change_no_bit_and_no_plan(config: PretrainConfig, tmp_path: Path) -> None:
    pipeline.pretrain(config, SILENT)
    plain = dataclasses.replace(
        config,
        output_dir=tmp_path / "plain",
        data=DataConfig(
            str(
                write(
                    tmp_path / "plain.jsonl",
                    [
                        {"text": json.loads(line)["text"]}
                        for line in (tmp_path / "data.jsonl").read_text().splitlines()
                    ],
                )
            )
        ),
    )
    pipeline.pretrain(plain, SILENT)
    assert weights(config.output_dir) == weights(plain.output_dir)
    plan = load_run(config.output_dir).record.content["plan"]
    assert not {"label_weight", "labels_fingerprint", "token_template"} & set(plan)


def test_labels_rise_and_the_teacher_stays_for_other_texts(config: PretrainConfig, tmp_path: Path) -> None:
    labelled = dataclasses.replace(config, label_weight=0.5)
    history = pipeline.pretrain(labelled, SILENT).history
    assert history[-1]["val_top5_recall"] > 0.95
    run = load_run(config.output_dir)
    assert run.record.content["data"]["labelled_texts"] == 90
    assert run.record.content["plan"]["label_weight"] == 0.5
    held_out = write(tmp_path / "held-out.jsonl", [*records(90, 150), {"text": "no label"}])
    found = evaluation.evaluate(run, EvaluateConfig(DataConfig(str(held_out))))
    assert (found.texts, found.unlabelled, sorted(found.tokens)) == (60, 1, sorted(LABELS))
    assert found.measured["model"].auc > 0.95 > 0.8 > found.measured["teacher"].auc
    assert found.measured["model"].hits[8] > 0.9
    assert found.measured["prior"].auc == 0.5
    with pytest.raises(MismatchError, match=r"label_weight is 0\.5 there, absent here"):
        pipeline.pretrain(dataclasses.replace(config, resume=True), SILENT)
    with pytest.raises(MismatchError, match="labels_fingerprint"):
        write(tmp_path / "data.jsonl", [*records(0, 90)[::-1], *({"text": f"plain {i}"} for i in range(120))])
        swapped = (tmp_path / "data.jsonl").read_text().replace("joyful", "gloomy")
        (tmp_path / "data.jsonl").write_text(swapped)
        pipeline.pretrain(dataclasses.replace(labelled, resume=True), SILENT)


def test_the_template_is_in_what_the_encoder_gets_and_in_the_run(
    config: PretrainConfig, tmp_path: Path
) -> None:
    pipeline.pretrain(dataclasses.replace(config, token_template="I am {}."), SILENT)
    run = load_run(config.output_dir)
    assert run.token_template == "I am {}."
    assert run.record.content["plan"]["token_template"] == "I am {}."
    plain = dataclasses.replace(config, output_dir=tmp_path / "plain")
    pipeline.pretrain(plain, SILENT)
    assert load_run(plain.output_dir).token_template == "{}"
    assert weights(plain.output_dir) != weights(config.output_dir)
    content = read_json_object(config.output_dir / "run.json")
    write_json(config.output_dir / "run.json", content | {"teacher": {"token_template": "{} {}"}})
    with pytest.raises(DataError, match="token_template"):
        load_run(config.output_dir)


@pytest.mark.parametrize(
    "wrong", [{"label_weight": 1.1}, {"label_weight": -0.1}, {"token_template": "no place"}]
)
def test_options_that_make_no_sense(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"--(label-weight|token-template) must"):
        PretrainConfig(DataConfig("x"), tmp_path, **wrong)


def test_targets_by_hand() -> None:
    # Rows 2 and 5 are labelled, 5 twice; token 0 is a label of both, token 1 of one.
    mix = LabelMix(0.25, np.array([[2, 0], [5, 0], [5, 1]]))
    teacher = torch.full((3, 325), 0.1)
    targets, weights = mix.targets(np.array([5, 3, 2]), teacher)
    assert targets[:, :3].tolist() == [
        pytest.approx([0.325, 0.325, 0.1]),
        pytest.approx([0.1, 0.1, 0.1]),
        pytest.approx([0.325, 0.075, 0.1]),
    ]
    # N / (K n_j) is 3 / (2 * 2) and 3 / (2 * 1).
    assert weights.tolist() == [pytest.approx((0.75 + 1.5) / 2), 1.0, 0.75]


def test_map_report_and_schema(make_run: Any, tmp_path: Path, made: Provenance, monkeypatch: Any) -> None:
    from hash_encoder import HashEncoder

    monkeypatch.setattr(evaluation, "load_run_encoder", lambda *_: HashEncoder())
    run = load_run(make_run(tmp_path / "run"))
    data = write(
        tmp_path / "d.jsonl",
        [{"text": f"<b>{i}</b>", "tokens": [("joy", "grief", "neutral")[i % 3]]} for i in range(12)],
    )
    names = tmp_path / "map.json"
    write_json(names, {"joy": "joyful", "grief": ["grieving", "sad"], "neutral": []})
    found = evaluation.evaluate(run, EvaluateConfig(DataConfig(str(data)), names))
    assert (found.texts, found.unlabelled) == (8, 4)
    assert set(found.tokens) == {"joyful", "grieving", "sad"}
    document = json.loads(json.dumps(figures(found), allow_nan=False))
    jsonschema.validate(document, SCHEMA)
    assert {one["token"] for one in document["tokens"]} == set(found.tokens)
    html = page(found, made)
    assert "grieving" in html
    assert "<b>0</b>" not in html
    again = evaluation.evaluate(run, EvaluateConfig(DataConfig(str(data)), names))
    assert again == found


@pytest.mark.parametrize(
    ("content", "why"),
    [({"joy": "joyfull"}, "vocabulary"), ({"joy": 3}, "a token or a list"), ({"sad": "sad"}, "'joy'")],
)
def test_maps_that_do_not_fit(make_run: Any, tmp_path: Path, content: Any, why: str) -> None:
    run = load_run(make_run(tmp_path / "run"))
    data = write(tmp_path / "d.jsonl", [{"text": "one", "tokens": ["joy"]}])
    write_json(tmp_path / "map.json", content)
    with pytest.raises(DataError, match=why):
        evaluation.evaluate(run, EvaluateConfig(DataConfig(str(data)), tmp_path / "map.json"))


def test_too_few_labels_to_say_anything(make_run: Any, tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run"))
    for lines, why in (
        ([{"text": "one"}], "has 0"),
        ([{"text": "one", "tokens": ["sad"]}, {"text": "two", "tokens": ["sad"]}], "2 or more labels"),
    ):
        with pytest.raises(DataError, match=why):
            evaluation.evaluate(run, EvaluateConfig(DataConfig(str(write(tmp_path / "d.jsonl", lines)))))


def test_every_label_used_here_is_a_token() -> None:
    assert set(LABELS) <= set(load_vocabulary().tokens)
