"""What `pt lm eval` measured, as one page."""

from __future__ import annotations

from collections.abc import Iterator

from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.html import Html, tag
from personality_common.page.tables import Column, Row, facts, table
from pretrain.lm.answers import Sample
from pretrain.lm.evaluation import Evaluation


def page(found: Evaluation, name: str, made: Provenance) -> str:
    """The page, as HTML.

    Args:
        name: of the run.
    """
    beaten = sum(one.model < one.kneser_ney for one in found.bits.values())
    counted = f"{beaten} of {len(found.bits)} sources take fewer bits than counting does"
    right = ", ".join(f"{one.exact:.0%} right of {kind}" for kind, one in found.calls.items())
    title = f"Calls: {right}" if right else counted
    sections = [
        kit.heading(title, f"{name}; {counted} (Kneser-Ney)."), _bits(found), *_answers(found), *_tags(found)
    ]  # fmt: skip
    samples = kit.card("Samples", kit.note("Beginnings of test documents, and how the model goes on."),
                       map(_sample, found.samples))  # fmt: skip
    return kit.page(f"{name}: evaluation", *sections, samples, made=made)


def _bits(found: Evaluation) -> Html:
    columns = [Column("source", "word"), *map(Column, ("documents", "bytes", "this run", "Kneser-Ney", "xz"))]
    rows: list[Row] = [
        (
            "" if one.model < one.kneser_ney else "failed",
            [source, str(one.documents), f"{one.bytes:,}",
             *(f"{value:.3f}" for value in (one.model, one.kneser_ney, one.xz))],
        )
        for source, one in found.bits.items()
    ]  # fmt: skip
    note = kit.note(
        "Of text that the model is to say, in documents that it was not trained on; lower is better."
        " Kneser-Ney counts runs of five tokens in the training text, and xz has that text before it."
    )
    return kit.card("Bits per byte", note, table(columns, rows))


def _answers(found: Evaluation) -> Iterator[Html]:
    columns = [
        Column("of", "word"), *map(Column, ("prompts", "right", "right tool", "valid call", "said none")),
    ]  # fmt: skip
    rows: list[Row] = [
        ("", [f"call, {kind}", str(c.examples), *map(_share, (c.exact, c.tool, c.valid, c.abstained))])
        for kind, c in found.calls.items()
    ]
    for name, share in (("no tool fits", found.abstention), ("reasoning", found.reasoning)):
        if share is not None:
            rows.append(("", [name, str(share.examples), _share(share.right), "", "", ""]))
    if rows:
        note = kit.note(
            "Decoded, the likeliest token each, without a grammar. A call is right if it is to the byte;"
            " where no tool fits, it is right to say so."
        )
        yield kit.card("Answers", note, table(columns, rows))


def _tags(found: Evaluation) -> Iterator[Html]:
    if (tags := found.tags) is not None:
        rows = (
            ("documents", str(tags.documents)),
            ("bits per byte under their own tag", f"{tags.right:.3f}"),
            ("under another", f"{tags.shuffled:.3f}"),
        )
        yield kit.card("Perspectives", kit.note("The difference is what a tag is worth."), facts(rows))


def _sample(one: Sample) -> Html:
    rows = (("source", one.source), ("the model says", one.text))
    return tag("article", tag("blockquote", one.prompt, dir="auto"), facts(rows))


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
