"""Personal data with a form of its own, most of it with a checksum or a range to check."""

# ruff: noqa: E501  (a pattern broken over lines reads worse)

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Final

from .findings import Finding

# Every quantifier is bounded or runs over a class that what follows cannot match: no rule backtracks far.
_EMAIL: Final = re.compile(
    r"(?<![\w.+%'-])[\w][\w.+%'-]{0,63}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}[^\W\d_]{2,24}(?![\w-])"
)
_SPOKEN_EMAIL: Final = re.compile(
    r"(?<![\w.])(?:[\w+-]{1,40} (?:dot|\(dot\)|\[dot\]) ){0,2}[\w.+-]{1,40} ?(?:at|\(at\)|\[at\]|\{at\}) ?"
    r"[\w-]{1,40} ?(?:(?:dot|\(dot\)|\[dot\]) ?[\w-]{1,40} ?){0,2}(?:dot|\(dot\)|\[dot\]) ?"
    r"(?:com|org|net|edu|gov|io|dev|info|[a-z]{2})\b",
    re.I,
)
_CARD: Final = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){11,}")
_CARD_DIGITS: Final = 19
"""At most (ISO/IEC 7812-1)."""
_CARD_FORMS: Final = ((4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4))
"""How numbers are set on cards, in groups."""
_IBAN: Final = re.compile(r"(?<![^\W_])[A-Z]{2}\d{2}(?=[ -]?[A-Z0-9])", re.I)
# The registry of ISO 13616 (SWIFT, release 99).
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU MN XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN_FORMS: Final = {0: None} | {
    n: re.compile(rf"[A-Z0-9](?:[ -]?[A-Z0-9]){{{n - 1}}}(?![A-Z0-9])", re.I | re.A)
    for n in set(_IBAN_LENGTHS.values())
}
_IPV4: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6: Final = re.compile(
    r"(?<![\w:.])(?=[\da-f:.]{0,39}:[\da-f:.]{0,39}:)[\da-f:]{2,39}(?:\.\d{1,3}){0,3}(?![\w:])", re.I
)
_VERSION: Final = re.compile(
    r"\b(?:version|release|section|chapter|build|firmware|driver|v)\.?\s{0,2}$", re.I
)
_SSN: Final = re.compile(r"(?<![\w-])(\d{3})([- ])(\d{2})\2(\d{4})(?![\w-])")
_BARE_SSN: Final = re.compile(
    r"\b(?:ssn|social(?: security)?(?: (?:number|no\.?))?)[^\w\n]{0,4}(?:is |it's |=)?[^\w\n]{0,3}(\d{9})\b",
    re.I,
)
_PHONE: Final = re.compile(
    r"(?<![\w.,/#$€£+-])(?P<number>(?:\+|\(\+?)?\d(?:[ ().\-/]{0,3}\d){5,17})(?: ?(?:x|ext\.? ?)\d{1,6}\b)?(?![\w%€$]|[.,]\d)",
    re.I,
)
_PHONE_WORD: Final = re.compile(
    r"(?:\b(?:phone|telephone|tel|mobile|cell|cellphone|handy|fax|whatsapp|signal|sms|landline|dial|"
    r"(?:call|ring|text|reach|phone|try|message)(?: \w{1,12})?(?: back)?|"
    r"(?:my|his|her|their|our|new|phone|contact|home|work|office) (?:number|no|nr))(?:'s)?\b)",
    re.I,
)
_OTHER_NUMBER: Final = re.compile(
    r"\b(?:order|invoice|ticket|case|tracking|serial|model|isbn|issue|part|account|flight|function|reference|ref|"
    r"customer|id|build|port|version|population|prime|arguments?)\b",
    re.I,
)
_DATE: Final = re.compile(r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))\b")
_GROUPED: Final = re.compile(r"\(?\d{3}\)?[ .-]{0,2}\d{3}[ .-]\d{4}|\d{3}-\d{3}-\d{4}")


def find_structured(text: str) -> Iterator[Finding]:
    """E-mail addresses, cards, IBANs, IP addresses, US social security numbers, phone numbers."""
    emails = [Finding("email", *found.span()) for found in _EMAIL.finditer(text)] if "@" in text else []
    emails += [Finding("email", *found.span()) for found in _SPOKEN_EMAIL.finditer(text)]
    yield from emails
    if not any(c.isdigit() for c in text) and ":" not in text:
        return
    numbers = list(_ibans(text))
    numbers += [one for one in _cards(text) if not _within(one, numbers)]
    numbers += [*_ips(text), *_ssns(text)]
    yield from numbers
    for one in numbers:  # no telephone number goes on in another number
        text = text[: one.start] + "\0" * (one.end - one.start) + text[one.end :]
    yield from _phones(text, contact=bool(emails))


def _within(one: Finding, others: list[Finding]) -> bool:
    return any(one.start < other.end and other.start < one.end for other in others)


def _cards(text: str) -> Iterator[Finding]:
    for found in _CARD.finditer(text):
        # A telephone number may stand before it, an expiry date or a second card after it: of the groups of
        # digits that begin with each, the most that check.
        groups = [(found.start() + m.start(), found.start() + m.end()) for m in re.finditer(r"\d+", found[0])]
        at = begun = 0
        while at < len(groups):
            most = _card_groups(text, groups[at : at + _CARD_DIGITS], anyhow=at == begun)
            if most:
                yield Finding("card", groups[at][0], groups[at + most - 1][1])
                begun = at + most
            at += max(most, 1)


def _card_groups(text: str, groups: Sequence[tuple[int, int]], *, anyhow: bool) -> int:
    """How many of the first groups of digits are a card's number together; 0: however many are none.

    Args:
        anyhow: in whatever groups, as behind a word or a card. Behind other digits chance finds too many: there
            they must be one, or as on a card.
    """
    digits: list[int] = []
    lengths: tuple[int, ...] = ()
    most = 0
    for start, end in groups:
        lengths = (*lengths, end - start)
        if sum(lengths) > _CARD_DIGITS:
            break
        digits += map(int, text[start:end])
        if (anyhow or len(lengths) == 1 or lengths in _CARD_FORMS) and _issued(digits) and _luhn(digits):
            most = len(lengths)
    return most


def _luhn(digits: list[int]) -> bool:
    """Whether the last digit checks the others (ISO/IEC 7812-1, annex B)."""
    doubled = (sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def _issued(digits: list[int]) -> bool:
    """Whether a card network gives out numbers that begin so and are that long."""
    length = len(digits)
    if length < 12:
        return False
    head = int("".join(map(str, digits[:4])))
    return (
        (digits[0] == 4 and length in (13, 16, 19))
        or ((5100 <= head <= 5599 or 2221 <= head <= 2720) and length == 16)
        or (head // 100 in (34, 37) and length == 15)
        or ((300 <= head // 10 <= 305 or head // 100 in (36, 38, 39)) and 14 <= length <= 19)
        or ((head == 6011 or head // 100 in (64, 65, 62, 60, 81)) and 16 <= length <= 19)
        or (3528 <= head <= 3589 and 16 <= length <= 19)
        or (head // 100 in (50, *range(56, 70)) and 12 <= length <= 19)
        or (head in (1800, 2131) and length == 15)
    )


def _ibans(text: str) -> Iterator[Finding]:
    for found in _IBAN.finditer(text):
        # The country says how long it is; what follows may look like more of it, and is not looked at.
        form = _IBAN_FORMS[_IBAN_LENGTHS.get(found[0][:2].upper(), 0)]
        whole = form.match(text, found.start()) if form else None
        if whole and _iban_checks(re.sub(r"[ -]", "", whole[0]).upper()):
            yield Finding("iban", *whole.span())


def _iban_checks(iban: str) -> bool:
    """ISO 13616: first four behind the rest, letters as 10 to 35, modulo 97 is 1."""
    if not iban.isascii() or not 15 <= len(iban) <= 34:
        return False
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97 == 1


def _ips(text: str) -> Iterator[Finding]:
    for pattern in (_IPV4, _IPV6):
        for found in pattern.finditer(text):
            start, end = found.span()
            address = found[0]
            if address.endswith(":") and not address.endswith("::"):
                address, end = address[:-1], end - 1
            if pattern is _IPV6 and (sum(c.isalnum() for c in address) < 4 or not re.search(r"\d", address)):
                continue
            if _VERSION.search(text[max(0, start - 16) : start]):
                continue
            try:
                ipaddress.ip_address(address)
            except ValueError:
                continue
            yield Finding("ip", start, end)


def _ssns(text: str) -> Iterator[Finding]:
    for found in _SSN.finditer(text):
        # What is never given out (Social Security Administration): area 000, 666, 9xx, group 00, serial 0000.
        if found[1] not in ("000", "666") and found[1] < "900" and found[3] != "00" and found[4] != "0000":
            yield Finding("ssn", *found.span())
    for found in _BARE_SSN.finditer(text):
        yield Finding("ssn", *found.span(1))


def _phones(text: str, contact: bool) -> Iterator[Finding]:
    """`contact`: an e-mail address is there too, and so a number alone on its line is no sum of a column."""
    for found in _PHONE.finditer(text):
        start, end = found.span()
        before = text[max(0, start - 40) : start].rsplit("\n", 1)[-1]
        named = [m.end() for m in _PHONE_WORD.finditer(before)]
        other = [m.end() for m in _OTHER_NUMBER.finditer(before)]
        called = bool(named) and (not other or named[-1] > other[-1])
        called = called or (contact and not before.rstrip(", "))
        if _is_phone(found["number"], called, bool(other) and not called):
            yield Finding("phone", start, end)


def _is_phone(candidate: str, called: bool, other: bool) -> bool:
    """Whether a number is one that rings.

    Args:
        candidate: digits with spaces, dots, hyphens, slashes and brackets between them.
        called: a word before it says phone.
        other: a word before it says order, ISBN and the like.
    """
    digits = "".join(c for c in candidate if c.isdigit())
    if not 6 <= len(digits) <= 17 or _DATE.match(candidate):
        return False
    if candidate.startswith(("+", "(+")):
        return 8 <= len(digits) <= 15
    if called:
        return len(digits) >= 7 or "-" in candidate or " " in candidate
    if other or candidate.count("(") != candidate.count(")"):
        return False
    groups = re.findall(r"\d+", candidate)
    if re.fullmatch(r"(?:00\d{1,3}|1)?[ .-]?" + _GROUPED.pattern, candidate):
        return True
    if digits.startswith("00"):
        return len(digits) >= 11 and len(groups) > 1
    if candidate == digits:
        return 10 <= len(digits) <= 12 and digits[0] == "0" != digits[1]
    # A trunk prefix, and groups as they are dialled: 01 42 68 53 00, 0171/5550123, (030) 901820.
    return digits[0] == "0" and 9 <= len(digits) <= 12 and 2 <= len(groups) <= 6 and "." not in candidate
