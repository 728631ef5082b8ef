"""Postal addresses and dates of birth: words and numbers in an order."""

# ruff: noqa: E501  (a pattern broken over lines reads worse)

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .findings import Finding

# The suffixes of United States Postal Service, Publication 28, appendix C1, and what Britain adds.
_SUFFIX: Final = (
    "Alley|Annex|Arcade|Ave|Avenue|Bayou|Beach|Bend|Bluffs?|Blvd|Boulevard|Bottom|Branch|Bridge|Brooks?|Burgs?|"
    "Bypass|Camp|Canyon|Cape|Causeway|Centers?|Centre|Circles?|Cir|Cliffs?|Close|Club|Common|Corners?|Course|Courts?|Ct|"
    "Coves?|Creek|Crescent|Cres|Crest|Crossing|Crossroad|Curve|Dale|Dam|Divide|Dr|Drives?|Estates?|Expressway|"
    "Extensions?|Falls?|Ferry|Fields?|Flats?|Fords?|Forest|Forges?|Forks?|Fort|Freeway|Gardens?|Gateway|Glens?|"
    "Greens?|Groves?|Harbors?|Haven|Heights|Highway|Hwy|Hills?|Hollow|Inlet|Islands?|Isle|Junctions?|Keys?|Knolls?|"
    "Lakes?|Land|Landing|Lane|Ln|Lights?|Loaf|Locks?|Lodge|Loop|Mall|Manors?|Meadows?|Mews|Mills?|Mission|Motorway|"
    "Mount|Mountains?|Neck|Orchard|Oval|Overpass|Park|Parkways?|Pkwy|Pass|Passage|Path|Pike|Pines?|Place|Pl|Plains?|"
    "Plaza|Points?|Ports?|Prairie|Radial|Ramp|Ranch|Rapids?|Rest|Ridges?|River|Roads?|Rd|Route|Row|Rue|Run|Shoals?|"
    "Shores?|Skyway|Springs?|Spurs?|Squares?|Sq|Station|Stravenue|Stream|Streets?|St|Summit|Terrace|Ter|Throughway|"
    "Trace|Track|Trafficway|Trail|Tunnel|Turnpike|Underpass|Unions?|Valleys?|Viaduct|Views?|Villages?|Ville|Vista|"
    "Walks?|Wall|Way|Ways|Wells?"
)
_NAME: Final = r"(?:(?:[A-Z][\w'’.-]{0,24}|\d{1,3}(?:st|nd|rd|th)|of|the|de|la)\s){1,4}"
_UP: Final = "A-ZÄÖÜÁÀÂÉÈÊËÍÎÏÓÔÚÛÑÇ"
_NUMBER: Final = r"\d{1,4}(?:[-/]\d{1,3})?(?:\s?[a-zA-Z])?\b"
_STATE: Final = (
    r"(?:A[KLRZAEPS]|C[AOT]|D[CE]|F[LM]|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]|O[HKR]|P[ARW]|RI|S[CD]|"
    r"T[NX]|UT|V[AIT]|W[AIVY])"
)
_WORDS: Final = rf"(?:['’]t\s|d['’])?[{_UP}][\w'’.-]{{1,24}}(?:[\s-](?:(?:de|del|di|la|le|les|sur|am|an|der|den|in|upon|aan)[\s-]){{0,2}}[{_UP}(][\w'’.()-]{{0,24}}){{0,3}}"
_POSTCODE: Final = r"[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}\b"
_STREETS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        # 742 Evergreen Terrace; Flat 4, 17 Queen's Road; H.No. 12, Rose Circle
        rf"(?<![\w.])(?:(?:Flat|Studio|Unit|H\.\s?No\.|House No\.)\s\w{{1,5}},?[\s\n])?\d{{1,5}}[A-Za-z]?(?:/\d{{1,3}})?,?\s{_NAME}"
        rf"(?:{_SUFFIX})\b\.?(?:\s(?:NW|NE|SW|SE|N|S|E|W)\b)?",
        rf"(?:H\.\s?No\.|House No\.)\s\d{{1,5}},?\s{_WORDS}",
        r"\bP\.?\s?O\.?\sBox\s\d{1,6}",
        r"\b(?:Unit|PSC)\s\d{3,4},?\sBox\s\d{1,5}",
        r"(?<![\w.])\d{1,5}\sBroadway\b",
        # Hauptstraße 12; Hans-Sachs-Weg 3a; Keizersgracht 123
        rf"(?<![\w-])[{_UP}][\w.-]{{1,40}}(?:straße|strasse|str\.|weg|platz|allee|gasse|ring|damm|ufer|straat|laan|gracht|plein|"
        rf"pad|hof|steeg|kade|dreef|singel|boulevard)\s{_NUMBER}",
        rf"\b(?:[{_UP}][\w.-]{{1,24}}[\s-]){{1,3}}(?:[Ss]traße|Str\.|Weg|Platz|Allee|Ring|Damm|Gasse|Ufer)\s{_NUMBER}",
        # 12 rue de la Paix
        r"(?<![\w.])(?:\d{1,4}(?:\s?(?:bis|ter))?,?\s)?(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Cc]hemin|[Qq]uai|[Ii]mpasse|[Aa]llée)"
        rf"(?:\s(?:de|du|des|la|le|les)){{0,3}}\s(?:l['’]|d['’])?{_WORDS}",
        # Via Roma 7; Calle Mayor, 15
        r"\b(?:Via|Viale|Vicolo|Piazza|Corso|Borgo|Contrada|Strada|Stretto|Rotonda|Canale|Incrocio|Calle|C\.|C/|Avenida|Avda\.|Plaza|"
        r"Paseo|Rambla|Ronda|Vial|Via|Pasaje|Pasadizo|Callejón|Camino|Carrer|Cuesta|Glorieta|Alameda|Acceso|Cañada|Urbanización|Rua|Largo)"
        rf"\s(?:(?:de|del|della|di|la|las|los|da|do|dos)\s){{0,2}}{_WORDS},?\s(?:n\.?º?\s?)?{_NUMBER}",
        rf"\b{_POSTCODE}",
        rf"\b{_WORDS},\s{_STATE}\s\d{{5}}(?:-\d{{4}})?\b",
    )
)
# What may follow a street: a unit, and up to four parts, each a town, a postcode, or both.
_PLACE: Final = (
    rf"(?:(?:[A-Z]{{1,2}}-)?\d{{4,6}}(?:\s?[A-Z]{{2}}\b)?(?:[\s,\n]{{1,2}}{_WORDS})?"
    rf"|{_POSTCODE}|{_WORDS}(?:,?\s{_STATE}\b)?(?:[\s-]{{1,3}}\d{{4,6}}(?:-\d{{4}})?\b)?)"
)
_TAIL: Final = re.compile(
    r"(?:,?\s(?:Apt|Apartment|Suite|Ste|Unit|Floor|Flat|Room|Piso|Piano|Puerta|Appartamento|#)\.?\s?#?\w{1,6})?"
    rf"(?:\s?[,\n]\s?{_PLACE}){{0,4}}(?:\s(?:{_POSTCODE}|(?<=[a-z]\s)\d{{5,6}}\b))?"
)
_MONTH: Final = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY: Final = r"\d{1,2}(?:st|nd|rd|th)?"
_DATE: Final = (
    rf"(?:\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/. ]\s?\d{{1,2}}[-/. ]\s?(?:\d{{4}}|\d{{2}})\b"
    rf"|(?:the\s)?{_DAY}\s(?:of\s)?{_MONTH}(?:,?\s\d{{4}})?|{_MONTH}\s(?:the\s)?{_DAY}\b(?:,?\s\d{{4}})?|{_MONTH}\s\d{{4}})"
)
_BIRTH: Final = (
    r"\b(?:born|birthda(?:y|te)|birth[- ]?dates?|date of birth|d\.?o\.?b\b\.?|b-?day)(?:'s)?(?![\w])"
)
_BIRTH_DATES: Final = tuple(
    re.compile(pattern, re.I)
    for pattern in (
        rf"{_BIRTH}[^\n.!?;\d]{{0,30}}?(?P<date>{_DATE})",
        rf"(?P<date>{_DATE})[ ,]{{1,2}}(?:is|was|=|-)[^\n.!?;\d]{{0,16}}{_BIRTH}",
        r"\b(?:was|am|were) born in (?P<date>(?:19|20)\d\d)\b",
    )
)
_BORN: Final = re.compile(r"born|birth|dob|d\.o\.b|b-?day", re.I)


def find_places(text: str) -> Iterator[Finding]:
    """Postal addresses with a number, a postcode or both; dates that are said to be of a birth."""
    if not any(c.isdigit() for c in text):
        return
    for pattern in _STREETS:
        for found in pattern.finditer(text):
            tail = _TAIL.match(text, found.end())
            end = tail.end() if tail else found.end()
            if any(c.isdigit() for c in text[found.start() : end]):
                yield Finding("address", found.start(), end)
    if _BORN.search(text):
        for pattern in _BIRTH_DATES:
            for found in pattern.finditer(text):
                yield Finding("birth_date", *found.span("date"))
