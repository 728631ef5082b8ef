"""An evaluation as files: figures for machines, and a page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from personality_common.evidence.claims import finite
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.html import Html, tag
from personality_common.page.tables import Column, Row, bar, table
from pretrain.personality.evaluation import Evaluation
from pretrain.personality.label_metrics import HITS, Measured

SCHEMA: Final = 1
"""Of the JSON, after `evaluation.schema.json`: greater when a key goes or means something else."""


def figures(found: Evaluation) -> dict[str, Any]:
    """All figures, without any text of the data."""
    document = {
        "schema": SCHEMA,
        "run_fingerprint": found.run,
        "vocabulary_fingerprint": found.vocabulary,
        "labels_fingerprint": found.data,
        "token_template": found.token_template,
        "texts": found.texts,
        "unlabelled": found.unlabelled,
        "measured": {name: _means(one) for name, one in found.measured.items()},
        "tokens": [
            {
                "token": name,
                "texts": one.texts,
                **{
                    source: {
                        "auc": measured.tokens[i].auc,
                        "average_precision": measured.tokens[i].average_precision,
                    }
                    for source, measured in found.measured.items()
                },
            }
            for i, (name, one) in enumerate(zip(found.tokens, found.measured["model"].tokens, strict=True))
        ],
        "confusions": [asdict(pair) for pair in found.confusions],
    }
    return dict(finite(document))


def _means(one: Measured) -> dict[str, Any]:
    return {
        "auc": one.auc,
        "average_precision": one.average_precision,
        "hits": {str(k): share for k, share in one.hits.items()},
        "coverage": one.coverage,
        "calibration_error": one.calibration_error,
    }


def page(found: Evaluation, made: Provenance) -> str:
    """The page, as HTML."""
    model, teacher = found.measured["model"], found.measured["teacher"]
    title = "What the tokens are worth"
    said = f"AUC {model.auc:.3f} of 1, the teacher {teacher.auc:.3f}, chance 0.5"
    subtitle = f"{title}: {found.texts} texts with {len(found.tokens)} labels that people gave"
    return kit.page(
        title,
        kit.heading(said, subtitle),
        kit.card(
            "Model and baselines",
            kit.note(
                "AUC and AP: means over labels, of how well a token's score tells its texts from the others. "
                "hit@k: texts of which a label is among the k highest tokens. Coverage: labels that are in "
                "any text's top 8. ECE: how far scores are from shares. Prior: how often a label comes."
            ),
            _measured(found),
        ),
        kit.card("Label by label", _tokens(found, model, teacher)),
        kit.card("Most confused", _confusions(found)),
        made=made,
        notes=tag("p", f"Run {found.run[:12]}, labels {found.data[:12]}."),
    )


def _measured(found: Evaluation) -> Html:
    names = ("AUC", "AP", *(f"hit@{k}" for k in HITS), "coverage", "ECE")
    rows: list[Row] = [
        ("strong" if name == "model" else "", (name, *map(_figure, _row(one))))
        for name, one in found.measured.items()
    ]
    return table([Column("", "word"), *map(Column, names)], rows)


def _row(one: Measured) -> tuple[float, ...]:
    return (one.auc, one.average_precision, *one.hits.values(), one.coverage, one.calibration_error)


def _tokens(found: Evaluation, model: Measured, teacher: Measured) -> Html:
    columns = [Column("label", "word"), *map(Column, ("texts", "AUC", "teacher", "AP", "teacher"))]
    rows: list[Row] = [
        (
            "",
            (
                name,
                ours.texts,
                _figure(ours.auc),
                _figure(theirs.auc),
                _figure(ours.average_precision),
                _figure(theirs.average_precision),
            ),
        )
        for name, ours, theirs in zip(found.tokens, model.tokens, teacher.tokens, strict=True)
    ]
    return table(columns, rows)


def _confusions(found: Evaluation) -> Html:
    words = (Column("label", "word"), Column("ranked above it", "word"))
    columns = [*words, Column("texts"), Column("of the label's", "long")]
    rows: list[Row] = [
        ("", (pair.label, pair.instead, pair.texts, (f"{pair.share:.0%} ", bar(pair.share, "now"))))
        for pair in found.confusions
    ]
    return table(columns, rows)


def _figure(value: float) -> str:
    return f"{value:.3f}"
