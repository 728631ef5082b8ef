"""Names of people: frequent given names, and the words that come before a name.

No model: spaCy takes 5 s to import, more than a chat may take to its first answer. What is found is in
BENCHMARKS.md.
"""

# ruff: noqa: E501  (a pattern broken over lines reads worse)

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .findings import Finding

_LISTS: Final = {
    name: frozenset(words)
    for name, words in json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8")).items()
}
_UPPER: Final = "[A-ZÀ-ÖØ-ÞĀ-Ž]"
_PART: Final = rf"(?:(?:O|D|L|d|l)['’])?(?:Mc|Mac|Ní|Nic|Mc\s)?{_UPPER}[^\W\d_]{{1,24}}(?:[-'’]{_UPPER}[^\W\d_]{{1,24}}){{0,2}}"
_PARTICLE: Final = r"(?:van der|van den|van|von|de la|de|del|della|da|dos|di|el|al|bin|ibn|Ní|Mac)"
_CAPITALS: Final = re.compile(
    rf"(?<![\w@#/.'’-]){_PART}(?:[ ](?:{_UPPER}\.[ ])?(?:{_PARTICLE}[ ])?{_PART}){{0,3}}(?![\w@])"
)
_TITLE: Final = re.compile(
    rf"\b(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Doctor|Herr|Frau|Señora?|Monsieur|Madame|Sir|Aunt|Uncle|Auntie)\b\.?[ ]"
    rf"(?P<name>(?:{_PARTICLE}[ ])?{_PART}(?:[ ](?:{_PARTICLE}[ ])?{_PART}){{0,2}})"
)
_LOWER_TITLE: Final = re.compile(rf"\b(?:mr|mrs|ms|dr|prof)\b\.?[ ](?P<name>{_PART})")
_INTRODUCED: Final = re.compile(
    rf"(?:\b[Mm]y (?:full |first |last |real |own )?name(?: is|'s|’s|:)|\b(?:[Cc]all(?:s|ed|ing)?|[Nn]amed?) (?:me|him|her)?"
    rf"|\bname:|\bgo(?:es)? by|\b(?:is|was|are) (?:called|named)|\bcalled|\bnamed|\b[Rr]egards,|\b[Ss]igned,|\bThis is)\s"
    rf"(?P<name>{_PART}(?:[ ](?:{_PARTICLE}[ ])?{_PART}){{0,3}})(?![\w@])"
)
_RELATIVE: Final = re.compile(
    r"\b(?:my|our|his|her|their|your) (?:(?:best|old|new|little|big|older|younger|late|twin|dear|good|close|ex-?) ?){0,2}"
    r"(?:friend|sister|brother|mother|father|mum|mom|dad|son|daughter|wife|husband|partner|girlfriend|boyfriend|fianc[ée]e?|"
    r"boss|colleague|coworker|neighbou?r|flatmate|roommate|aunt|uncle|cousin|nephew|niece|grandma|grandpa|teacher|"
    r"landlord|landlady|doctor|therapist|dentist|manager|assistant|ex|crush|buddy|mate|classmate|baby)[ ,]{1,2}"
    rf"(?:called |named )?(?P<name>[^\W\d_]{{2,25}}(?:[ ]{_PART}){{0,2}})",
    re.I,
)
_INTRODUCED_LOWER: Final = re.compile(
    r"\b(?:my name is|my name's|call me|named|called)\s(?P<name>[a-z]{2,25})\b", re.I
)

# Given names that are words, months, places or firms as well: alone they are no finding.
_ALSO_WORDS: Final = _LISTS["also_words"]
_NOT_AFTER: Final = _LISTS["not_after"]
_NO_NAMES: Final = _LISTS["no_names"]
# Capitalised and no person: languages, peoples, places, firms, software.
_THINGS: Final = _LISTS["things"]
_PLACE_WORDS: Final = _LISTS["place_words"]
_NEVER_LOWER: Final = _LISTS["never_lower"]


def find_names(text: str) -> Iterator[Finding]:
    """Names of people, as far as lists and the words before them show."""
    given, surnames = _LISTS["given"], _LISTS["surnames"]
    for found in _CAPITALS.finditer(text):
        yield from _in_run(text, found.start(), found[0], given, surnames)
    for pattern in (_TITLE, _LOWER_TITLE, _INTRODUCED):
        for found in pattern.finditer(text):
            if found["name"].split()[0] not in _NO_NAMES:
                yield Finding("person", *found.span("name"))
    for found in _RELATIVE.finditer(text):
        name = found["name"]
        first = name.split()[0]
        if first[0].isupper() and first not in _NO_NAMES:
            yield Finding("person", *found.span("name"))
        elif first.title() in given and first not in _NEVER_LOWER:
            yield Finding("person", found.start("name"), found.start("name") + len(first))
    for found in _INTRODUCED_LOWER.finditer(text):
        if found["name"].title() in given and found["name"].lower() not in _NEVER_LOWER:
            yield Finding("person", *found.span("name"))


def _in_run(
    text: str, at: int, run: str, given: frozenset[str], surnames: frozenset[str]
) -> Iterator[Finding]:
    """Names in a run of capitalised words."""
    words = [(m.start(), m[0]) for m in re.finditer(r"\S+", run)]
    i = 0
    while i < len(words):
        start, word = words[i]
        if word in _PLACE_WORDS:  # San Francisco, Google Maps: what follows belongs to it
            i += 2
            continue
        bare = re.sub(r"['’]s$", "", word)
        first = re.split(r"[-'’]", bare)[0]
        more = 0
        rest = [w for _, w in words[i + 1 :]]
        while more < len(rest) and rest[more] not in _NO_NAMES and rest[more] not in _NOT_AFTER:
            more += 1
        firm = i + 1 + more < len(words) and words[i + 1 + more][1] in _NOT_AFTER
        known = (bare in given or first in given) and bare not in _NO_NAMES
        sure = known and (
            bare not in _ALSO_WORDS or (more and rest[0] in surnames | given) or _addressed(text, at + start)
        )
        if not firm and (
            sure or (more and bare not in _NO_NAMES and bare not in given and rest[more - 1] in surnames)
        ):
            last_start, last = words[i + more]
            end = last_start + len(re.sub(r"['’]s$", "", last))
            yield Finding("person", at + start, at + end)
            i += more
        elif (
            not firm and bare not in _NO_NAMES | _THINGS and not (known and not more and bare in _ALSO_WORDS)
        ):
            last_start, last = words[i + more]
            end = at + last_start + len(re.sub(r"['’]s$", "", last))
            if not _THINGS.intersection(w for _, w in words[i : i + more + 1]) and _acts(
                text, at + start, end, more + 1
            ):
                yield Finding("person", at + start, end)
                i += more
        i += 1


# A capitalised word that is on no list is a name where people are named: told, met, thanked, speaking.
_BEFORE: Final = re.compile(
    r"\b(?:[Tt]ell|[Tt]old|[Aa]sk(?:ed)?|[Ii]nvite[ds]?|[Mm]eet|[Mm]et|[Tt]hank(?:ed)?|[Mm]arr(?:y|ied)|[Hh]ug(?:ged)?|[Kk]iss(?:ed)?|"
    r"[Tt]ext(?:ed)?|[Mm]iss(?:ed)?|[Dd]ating|[Gg]ave|[Ww]ith|[Dd]ear|[Hh]i|[Hh]ello|[Hh]ey|(?:card|gift|present|note|letter|party) (?:for|to)|"
    r"(?:talk|speak|spoke|chat|listen|writ|wrote|said|lied|apologi[sz]e)(?:ed|ing|e|s)? to|(?:lunch|dinner|breakfast|coffee|tea|drinks|date|argument|fight) with|because of|I'm|I’m|I am|by|[Gg]ive|[Bb]ring|[Hh]elp(?:ed)?|"
    r"[Yy]esterday|[Tt]oday|[Mm]aybe|[Ll]uckily|and|think|thinks|hope|when|if|that) $"
)
_AFTER: Final = re.compile(
    r"^(?:,? (?:said|says|told|asked|asks|thinks|thought|wants|wanted|came|comes|called|calls|texted|moved|lives|loves|likes|"
    r"hates|hated|knows|knew|helped|promised|laughed|cried|smiled|forgot|invited|left me|and I\b|"
    r"(?:is|was|will be|seems) (?:my|our|his|her|angry|coming|sick|ill|late|here|sad|happy|upset|nice|kind|mad|afraid|in love|pregnant|married|from|"
    r"a (?:friend|nurse|teacher|doctor|good|kind|nice)))\b"
    r"|['’]s (?:birthday|place|house|flat|mum|mom|dad|mother|father|sister|brother|wife|husband|party|wedding|number|car|boss)\b)"
)
_WEAK: Final = re.compile(
    r"(?:\b(?:and|think|thinks|hope|when|if|that|by|[Gg]ive|[Mm]iss|[Hh]elp|I'm|I’m|I am|[Yy]esterday|[Tt]oday|[Mm]aybe|[Ll]uckily)|(?<!lunch )(?<!dinner )(?<!coffee )(?<!date )(?<!drinks )\b[Ww]ith) $"
)


def _acts(text: str, start: int, end: int, words: int) -> bool:
    """Whether the sentence treats what is there as a person; a weak sign needs two words, or a second sign."""
    before = _BEFORE.search(text[max(0, start - 24) : start])
    after = bool(_AFTER.search(text[end : end + 32]))
    if before and _WEAK.search(text[max(0, start - 24) : start]):
        return after or words >= 2
    return bool(before) or after


_ADDRESSED: Final = re.compile(
    r"(?:\b(?:[Dd]ear|[Hh]i|[Hh]ello|[Hh]ey|[Ww]ith|[Tt]ell|[Aa]sk|I'm|I’m|[Ii] am|[Mm]eet|[Ii]nvite|[Tt]hanks,|[Ll]ove,|call(?:s|ed)? me|card for)\s)$"
)


def _addressed(text: str, at: int) -> bool:
    return bool(_ADDRESSED.search(text[max(0, at - 12) : at]))
