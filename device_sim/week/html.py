"""A week as one page: what each part gave, and day by day what was said, decided, and known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from device_sim.week.figures import (
    BAR,
    NAMES,
    DayFigures,
    Share,
    contributions,
    day_figures,
    headline,
    nights_taken,
)
from device_sim.week.state import ARMS, Arm, Day, Exchange, Morning, NightCame, Week
from device_sim.week.user import User, knows
from personality_common.evidence.provenance import Provenance
from personality_common.page import page as kit
from personality_common.page.html import Content, Html, tag
from personality_common.page.lines import Limit, Series, line_chart
from personality_common.page.tables import Column, facts, table
from personality_common.printable import excerpt

SHOWN: Final = 4
"""Messages of small talk of a day that stand open; the others are folded."""
LONGEST: Final = 280
"""Characters of an answer that are shown."""
_PERPLEXITY: Final = 2.0
"""Percent that the perplexity of nobody's prompts may rise: the bar."""


def page(week: Week, made: Provenance) -> str:
    """The page, as HTML."""
    user = User(week.settings.seed, week.settings.days, week.settings.turns)
    days = day_figures(week)
    sections = [kit.heading(headline(week), _subtitle(week))]
    if days:
        sections += [_parts(days), _who(user), _charts(week, days)]
    sections += [_day(day, user) for day in week.days]
    notes = tag(
        "p",
        "The user is simulated, and so is all that they told; the model, its memory and its nights are not.",
    )
    return kit.page(f"A week: {headline(week)}", *sections, made=made, notes=notes)


def _subtitle(week: Week) -> str:
    settings, taken = week.settings, nights_taken(week)
    lived = sum(day.morning is not None for day in week.days)
    begun = "" if week.done else f", {lived} of them lived so far"
    return (
        f"{settings.days} days of {settings.turns} messages{begun}; {settings.model}, seed {settings.seed};"
        f" nights accepted: {taken}"
    )


def _parts(days: Sequence[DayFigures]) -> Html:
    first, last = days[0], days[-1]
    columns = [
        Column("answered by", "word"), Column("facts, the next day"),
        Column(f"facts, after day {last.number}"), Column("style"), Column("perplexity"),
    ]  # fmt: skip
    rows = []
    for arm in ARMS:
        change = last.perplexity.get(arm)
        cells = [_share(shares.get(arm)) for shares in (first.facts, last.facts, last.style)]
        cells.append("–" if change is None else f"{change:+.1%}")
        rows.append(("strong" if arm == "served" else "", [NAMES[arm], *cells]))
    note = kit.note(
        "Facts are asked in words that no night trains. The adapter is that of the last night, whatever the"
        " gate said of it; what the user had is what the gate let through, with the memory. Style: messages"
        " that are never said by day. Perplexity: of the model's own answers to prompts of nobody's."
    )
    lines = tag("ul", (tag("li", line) for line in contributions(days)))
    parts = table(columns, rows)  # type: ignore[arg-type]
    return kit.card("What each part gave", note, parts, tag("h3", "In words"), lines)


def _share(share: Share | None) -> str:
    return "–" if share is None or not share.of else f"{share} ({share.value:.0%})"


def _who(user: User) -> Html:
    rows: list[tuple[str, Content]] = [(f.what, _life(user, f.value, f.later)) for f in user.facts]
    signs = user.sign_off(1), user.sign_off(user.drifts_on)
    rows.append(("likes", f"one sentence and “{signs[0]}”, from day {user.drifts_on} on “{signs[1]}”"))
    return kit.card("Who the user is", facts(rows))


def _life(user: User, value: str, later: str | None) -> str:
    return value if later is None else f"{value}, from day {user.drifts_on} on {later}"


def _charts(week: Week, days: Sequence[DayFigures]) -> Html:
    charts = [
        _chart(
            "Facts answered with the memory", days, "facts", ("both", "memory"), [Limit("bar", 100 * BAR)]
        ),
        _chart("Facts answered without it", days, "facts", ("adapter", "neither")),
        _chart("The style that is liked, shown", days, "style", ("both", "served")),
        _liked(days),
        _perplexity(days),
        _tasks(week),
    ]
    return kit.card("Day by day", kit.columns(chart for chart in charts if chart))


def _chart(
    title: str, days: Sequence[DayFigures], what: str, arms: tuple[Arm, Arm], limits: Sequence[Limit] = ()
) -> Html:
    series = [
        Series(NAMES[arm], [_percent(getattr(day, what).get(arm)) for day in days], first=days[0].number)
        for arm in arms
    ]
    shown = [one for one in series if not all(map(math.isnan, one.values))]
    return line_chart(title, shown or series, limits, x="day", y="percent")


def _liked(days: Sequence[DayFigures]) -> Html:
    heard = [_percent(day.heard) for day in days]
    return line_chart(
        "Answers by day that needed no edit", [Series("had the style", heard, first=days[0].number)],
        x="day", y="percent",
    )  # fmt: skip


def _perplexity(days: Sequence[DayFigures]) -> Html | None:
    values = [100 * day.perplexity.get("adapter", math.nan) for day in days]
    if all(map(math.isnan, values)):
        return None
    series = [Series("tonight's adapter", values, first=days[0].number)]
    return line_chart(
        "Perplexity of prompts of nobody's", series, [Limit("bar", _PERPLEXITY)], x="day", y="percent more"
    )


def _tasks(week: Week) -> Html | None:
    nights = [day.night for day in week.days if day.morning is not None and day.night is not None]
    pairs = [night.capability or (math.nan, math.nan) for night in nights]
    if not any(night.capability for night in nights):
        return None
    tips = [f"night {i}: {night.outcome}" for i, night in enumerate(nights, start=1)]
    series = [
        Series("what was in use", [100 * before for before, _ in pairs], first=1),
        Series("tonight's adapter", [100 * after for _, after in pairs], first=1, tips=tips),
    ]
    return line_chart("Small tasks done right", series, x="night", y="percent")


def _percent(share: Share | None) -> float:
    return math.nan if share is None else 100 * share.value


def _day(day: Day, user: User) -> Html:
    told = [said for said in day.exchanges if said.kind != "talks"]
    talks = [said for said in day.exchanges if said.kind == "talks"]
    content: list[Content] = [map(_exchange, told), map(_exchange, talks[:SHOWN])]
    if rest := talks[SHOWN:]:
        content.append(tag("details", tag("summary", f"{len(rest)} messages more"), map(_exchange, rest)))
    if day.number == user.drifts_on:
        content.insert(0, kit.note(f"From today on answers should end in “{user.sign_off(day.number)}”."))
    if day.night is not None:
        content += _night(day.night)
    if day.morning is not None:
        content += _morning(day.morning)
    return kit.card(f"Day {day.number}", *content)


def _exchange(said: Exchange) -> Html:
    chips: list[Html] = []
    if said.right is not None and said.kind == "asks":
        chips.append(kit.chip("known", "won") if said.right else kit.chip("not known", "lost"))
    if said.thumbs is not None:
        chips.append(kit.chip("thumb up", "won") if said.thumbs > 0 else kit.chip("thumb down", "lost"))
    if said.memories:
        chips.append(kit.chip(f"memories in the prompt: {said.memories}"))
    edit = tag("p", tag("b", "edited to "), said.edit, dir="auto") if said.edit else None
    return tag(
        "article",
        tag("blockquote", said.said, dir="auto"),
        tag("p", excerpt(said.answer, LONGEST) or "(nothing)", class_="detail", dir="auto"),
        edit,
        tag("div", chips, class_="chips") if chips else None,
    )


def _night(night: NightCame) -> Iterator[Html]:
    kind = {"accepted": "won", "refused": "lost"}.get(night.outcome, "")
    yield tag("h3", "The night: ", kit.chip(night.outcome, kind))  # type: ignore[arg-type]
    rows: list[tuple[str, Content]] = [("active since", night.active or "–")]
    if night.gain is not None:
        rows += [
            ("trained on", f"{night.trained} examples, {night.tokens:,} tokens"),
            ("held out", f"{night.held_out}; gain {night.gain:+.3f} nats a token"),
            ("tasks", f"{night.lost} lost, {night.won} won"),
        ]
    yield facts(rows)
    if night.reasons:
        yield tag("ul", (tag("li", reason) for reason in night.reasons))


def _morning(morning: Morning) -> Iterator[Html]:
    arms = [arm for arm in ARMS if arm in morning.asked[0].answers]
    columns = [
        Column("asked", "long"),
        Column("true is", "word"),
        *(Column(_HEADS[arm], "word") for arm in arms),
    ]
    rows = [
        ("", [one.said, one.value, *(_mark(knows(one.answers[arm], one.value)) for arm in arms)])
        for one in morning.asked
    ]
    yield tag("h3", "The morning after")
    yield table(columns, rows)  # type: ignore[arg-type]
    told = [(one.said, one.answers) for one in morning.asked]
    told += [(one.said, one.answers) for one in morning.styled]
    yield tag(
        "details",
        tag("summary", "What was answered, and to messages never said by day"),
        (_answers(*one) for one in told),
    )


_HEADS: Final[dict[Arm, str]] = {
    "neither": "neither", "memory": "memory", "adapter": "adapter", "both": "both", "served": "the user had",
}  # fmt: skip


def _mark(right: bool) -> Html:
    return tag("span", "✓" if right else "✗", class_="mark ok" if right else "mark bad")


def _answers(said: str, answers: Mapping[str, str]) -> Html:
    rows = ((_HEADS[arm], excerpt(answers[arm], LONGEST) or "(nothing)") for arm in ARMS if arm in answers)
    return tag("article", tag("blockquote", said, dir="auto"), facts(rows))
