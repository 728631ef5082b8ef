"""Nights in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from device_sim.night.planning import Outlook
from device_sim.night.report import Report, outcome
from device_sim.night.state import Night, SetFigures
from personality_common.printable import counted, excerpt
from personality_common.terminal.checks import ChecksTable
from personality_common.terminal.tables import Column, Grid, figures

SHOWN = 40
"""Characters of a text, where it is asked for."""


def nights_table(nights: Sequence[Night]) -> Grid:
    """A row per night; where it is narrow without its tasks and what it trained on."""
    with_head = any(night.head is not None for night in nights)
    columns = (
        Column("night", "figure"), Column("began", drop=3), Column("outcome", "text"),
        Column("trained", "figure", drop=2), Column("held out", "figure", drop=2), Column("gain", "figure"),
        Column("lost", "figure", drop=1), Column("won", "figure", drop=1), Column("active"),
        *([Column("head")] if with_head else []),
    )  # fmt: skip
    rows = [
        (
            str(night.number), night.began[:10], outcome(night), str(len(night.split.train)),
            str(len(night.split.held_out)), gain_of(night), str(len(night.lost)), str(len(night.won)),
            (night.activated or "–").partition("-")[0],
            *((head_outcome(night),) if with_head else ()),
        )
        for night in nights
    ]  # fmt: skip
    return Grid(columns, rows)


def sets_table(sets: Sequence[SetFigures]) -> Grid:
    """A row per set: before, after, and the gain with its 95% interval."""
    rows = [
        (one.name, str(one.n), f"{one.before:.3f}", f"{one.after:.3f}", f"{one.gain:+.3f}", interval(one))
        for one in sets
    ]
    return Grid((Column("set", "text"), *figures("n", "before", "after", "gain", "95%")), rows)


def gain_of(night: Night) -> str:
    """Of what was held out, in nats per token."""
    target = next((one for one in night.sets if one.kind == "target"), None)
    return "–" if target is None else f"{target.gain:+.3f}"


def interval(one: SetFigures) -> str:
    return "–" if one.low is None or one.high is None else f"{one.low:+.3f} to {one.high:+.3f}"


def night_blocks(night: Night) -> Iterator[RenderableType]:
    """All of a night: its sets, its checks, and what became of it, in lines that break between words."""
    if night.sets:
        yield sets_table(night.sets)
        yield ""
    checks = (*(night.head.checks if night.head else ()), *night.checks)
    if checks:
        yield ChecksTable(checks)
        yield ""
    for line in (*night_lines(night), *head_lines(night)):
        yield _hanging(line)


def _hanging(line: str) -> RenderableType:
    """A line that breaks between words, its further ones as far in as the first."""
    text = line.lstrip()
    return Padding(Text(text, overflow="fold"), (0, 0, 0, len(line) - len(text)), expand=False)


def night_lines(night: Night) -> Iterator[str]:
    """What became of a night, a line each."""
    if night.step != "done":
        yield f"{night.name} was stopped before its step {night.step!r}; pt night run goes on or begins anew"
        return
    if night.accepted is None:
        yield f"{night.name}: nothing new for the adapter, {night.activated} stays active"
    elif night.accepted:
        yield f"{night.name}: accepted, {night.activated} is active"
    else:
        yield f"{night.name}: refused, {night.activated} stays active"
    for reason in night.reasons:
        yield f"  {reason}"
    for version in night.unclean:
        yield f"  {version} learned from what was forgotten since, and is blocked"
    if night.training is not None:
        took = night.training
        yield (
            f"  {len(night.split.train)} examples and {night.replayed} prompts of nobody's,"
            f" {took.tokens:,} tokens in {took.seconds:.0f} s, {took.peak_bytes / 1e9:.1f} GB"
        )
    if night.augmented:
        made, kept = (sum(getattr(one, name) for one in night.augmented) for name in ("made", "kept"))
        refused = ", ".join(f"{count} {why}" for why, count in refusals(night))
        yield (
            f"  {kept} questions about facts in the base's own words, too, of {made} that it made"
            f" for {counted(len(night.augmented), 'fact')}{f'; refused: {refused}' if refused else ''}"
        )


def refusals(night: Night) -> list[tuple[str, int]]:
    """Why the base's questions were not trained, and how many; the most frequent first."""
    found: Counter[str] = Counter()
    for one in night.augmented:
        found.update(one.refused)
    return found.most_common()


def head_lines(night: Night) -> Iterator[str]:
    """What became of its head, a line each."""
    head = night.head
    if head is None or night.step != "done":
        return
    if head.accepted:
        yield f"{night.name}: head accepted, {head.activated} is active"
    else:
        yield f"{night.name}: head refused, {head.activated} stays active"
    for reason in head.reasons:
        yield f"  {reason}"
    for word, tokens in (("more", head.more), ("less", head.less)):
        if head.accepted and tokens:
            yield f"  {word}: {', '.join(tokens)}"


def head_outcome(night: Night) -> str:
    """In a word."""
    if night.head is None or night.step != "done":
        return "–"
    return "accepted" if night.head.accepted else "refused"


def tasks_lines(report: Report) -> Iterator[RenderableType]:
    """Tasks that changed sides, by name."""
    for word, names in (
        ("lost", report.night and report.night.lost),
        ("won", report.night and report.night.won),
    ):
        if names:
            yield _hanging(f"tasks {word}: {', '.join(names)}")


def outlook_lines(found: Outlook, verbose: bool) -> Iterator[Text | str]:
    """What would be learned, left out, and why; texts only where they are asked for, and shortened."""
    parts = found.split
    if found.stopped is not None:
        yield f"{found.stopped.name} was stopped before {found.stopped.step!r}: --resume goes on with it"
    yield f"{found.new} new examples of {len(found.items)} that are live"
    for name, ids in (
        ("to train on", parts.train),
        ("to choose the best step by", parts.validation),
        ("held out tonight, for good", parts.held_out),
        ("held out by earlier nights", parts.earlier),
        ("wordings of facts that are not trained", parts.recall),
        ("left out: too near to what is held out", parts.left_out),
    ):
        yield f"{len(ids):6}  {name}"
        if verbose:
            for id in ids:
                item = found.items[id]
                yield Text(f"        {excerpt(item.said, SHOWN)} → {excerpt(item.answer, SHOWN)}", "dim")
    yield f"{found.replay:6}  prompts of nobody's, with the base's own answers"
    if found.augment:
        yield f"{found.augment:6}  questions about facts, at most, in the base's own words"
    for why, count in found.left_out.items():
        yield f"{count:6}  left out: {why}"
    if found.reactions is not None:
        new, live = found.reactions
        yield f"{new:6}  new reactions to moods of {live} that are live, for the head"
    for version in found.unclean:
        yield f"{version} learned from what was forgotten since: it would be blocked"
    if not found.new and not found.unclean:
        head = found.reactions is not None and found.reactions[0]
        yield f"nothing new to learn: there would be no night{' but for the head' if head else ''}"
    elif not found.enough:
        yield "too little is held out to judge by: it would be refused, and all of it waits"
