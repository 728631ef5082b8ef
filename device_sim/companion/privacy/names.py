"""Names of people: frequent given names, and the words that come before a name.

No model: spaCy takes 5 s to import, more than a chat may take to its first answer. What that costs is in
BENCHMARKS.md, beside a model's figures.
"""

# ruff: noqa: E501  (a pattern broken over lines reads worse)

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .findings import Finding

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
_ALSO_WORDS: Final = frozenset(
    [
        "Alba",
        "Amber",
        "Angel",
        "April",
        "August",
        "Aurora",
        "Austin",
        "Bella",
        "Bill",
        "Blake",
        "Bob",
        "Brandy",
        "Brooke",
        "Candy",
        "Carol",
        "Chad",
        "Chance",
        "Charity",
        "Chase",
        "Chelsea",
        "Claude",
        "Clay",
        "Crystal",
        "Dale",
        "Dan",
        "Dawn",
        "Dean",
        "Destiny",
        "Don",
        "Earl",
        "Eve",
        "Faith",
        "Ferry",
        "Finn",
        "Florence",
        "Frank",
        "Gene",
        "Georgia",
        "Grace",
        "Grant",
        "Guy",
        "Harmony",
        "Harry",
        "Hazel",
        "Heather",
        "Heaven",
        "Holly",
        "Hope",
        "Hunter",
        "Iris",
        "Ivy",
        "Jack",
        "Jade",
        "Jan",
        "Jasmine",
        "Jay",
        "Jean",
        "Jordan",
        "Joy",
        "June",
        "Kay",
        "Lance",
        "Lily",
        "Lou",
        "Madison",
        "Mark",
        "Mary",
        "Mason",
        "Max",
        "May",
        "Melody",
        "Mercedes",
        "Miles",
        "Mina",
        "Moses",
        "Nick",
        "Olive",
        "Paris",
        "Pat",
        "Penny",
        "Perry",
        "Pete",
        "Pia",
        "Poppy",
        "Ray",
        "Rob",
        "Robin",
        "Roman",
        "Rose",
        "Rosemary",
        "Ruby",
        "Sally",
        "Said",
        "Sierra",
        "Stella",
        "Sue",
        "Summer",
        "Ted",
        "Till",
        "Tony",
        "Troy",
        "Tyler",
        "Victoria",
        "Viola",
        "Violet",
        "Virginia",
        "Wade",
        "Warren",
        "Will",
        "Willow",
        "Wayne",
        "Sydney",
        "Savannah",
        "Skip",
        "Art",
        "Rich",
        "Drew",
        "Jesus",
        "Ali",
        "Yan",
        "Guadalupe",
        "Santiago",
        "San",
        "Diego",
        "Lorenzo",
        "Washington",
        "Lincoln",
        "Houston",
        "Dallas",
        "Phoenix",
        "Jackson",
        "Cameron",
        "Nelson",
        "Winston",
        "Anderson",
        "Kim",
        "Lee",
        "Siri",
        "Alexa",
        "Cortana",
        "Watson",
        "Python",
        "Java",
        "Ruby",
        "Julia",
        "Swift",
        "Ada",
        "Pascal",
        "Haskell",
        "Kotlin",
        "Oscar",
    ]
)
_NOT_AFTER: Final = frozenset(
    [
        "University",
        "Street",
        "Road",
        "Avenue",
        "College",
        "School",
        "Hospital",
        "Airport",
        "Bridge",
        "Park",
        "River",
        "Lake",
        "Island",
        "Prize",
        "Award",
        "Institute",
        "Museum",
        "Station",
        "Theatre",
        "Theater",
        "Church",
        "Cathedral",
        "Beach",
        "Bay",
        "Square",
        "Inc",
        "Ltd",
        "Corp",
        "Cup",
        "Code",
        "Studio",
        "Day",
        "Claus",
        "Bible",
    ]
)
_NO_NAMES: Final = frozenset(
    [
        "I",
        "A",
        "The",
        "This",
        "That",
        "It",
        "He",
        "She",
        "We",
        "You",
        "They",
        "My",
        "Your",
        "His",
        "Her",
        "Our",
        "Their",
        "Is",
        "Are",
        "Am",
        "Was",
        "Were",
        "Do",
        "Does",
        "Did",
        "Can",
        "Could",
        "Will",
        "Would",
        "Should",
        "May",
        "Might",
        "Must",
        "Have",
        "Has",
        "Had",
        "And",
        "Or",
        "But",
        "If",
        "When",
        "Where",
        "Why",
        "What",
        "Who",
        "How",
        "Which",
        "Not",
        "No",
        "Yes",
        "Please",
        "Thanks",
        "Thank",
        "Hi",
        "Hello",
        "Hey",
        "Dear",
        "Sorry",
        "Ok",
        "Okay",
        "Good",
        "Happy",
        "Merry",
        "New",
        "Old",
        "Best",
        "Great",
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
        "English",
        "German",
        "French",
        "Spanish",
        "Italian",
        "American",
        "British",
        "Chinese",
        "Japanese",
        "Indian",
        "Catholic",
        "Christian",
        "Muslim",
        "Jewish",
        "Tell",
        "Ask",
        "Call",
        "Send",
        "Give",
        "Meet",
        "Regards",
        "Cheers",
        "Love",
        "God",
        "Sir",
        "Madam",
        "Mom",
        "Mum",
        "Dad",
        "Grandma",
        "Grandpa",
        "Mother",
        "Father",
        "Today",
        "Tomorrow",
        "Yesterday",
        "Yours",
        "Sincerely",
        "Mr",
        "Mrs",
        "Ms",
        "Miss",
        "Dr",
        "Prof",
        "Everyone",
        "Everybody",
        "Someone",
        "Somebody",
        "Nobody",
        "Anybody",
        "Anyone",
        "One",
        "People",
        "Both",
        "All",
        "Each",
        "Most",
        "Many",
        "Some",
        "Another",
        "Other",
        "Others",
        "Guess",
        "Deliver",
        "Did",
        "Does",
        "Let",
        "Say",
        "Invite",
        "Remind",
        "Write",
        "Email",
        "Text",
        "Ring",
        "Visit",
        "Is",
        "With",
        "For",
        "From",
        "To",
        "At",
        "In",
        "On",
        "Of",
        "By",
        "Then",
        "So",
    ]
)
# Capitalised and no person: languages, peoples, places, firms, software.
_THINGS: Final = frozenset(
    [
        "Python",
        "Java",
        "JavaScript",
        "Rust",
        "Go",
        "Kotlin",
        "Swift",
        "Ruby",
        "Perl",
        "Docker",
        "Linux",
        "Windows",
        "Android",
        "Mac",
        "MacBook",
        "Git",
        "GitHub",
        "GitLab",
        "Google",
        "Apple",
        "Amazon",
        "Microsoft",
        "Facebook",
        "Meta",
        "Twitter",
        "Netflix",
        "Spotify",
        "WhatsApp",
        "Instagram",
        "Slack",
        "Zoom",
        "Excel",
        "Word",
        "Outlook",
        "Django",
        "React",
        "Postgres",
        "SQL",
        "JSON",
        "HTML",
        "CSS",
        "API",
        "Ubuntu",
        "Debian",
        "Firefox",
        "Chrome",
        "Safari",
        "Tesla",
        "Ford",
        "Toyota",
        "BMW",
        "Siemens",
        "Ikea",
        "Lidl",
        "Aldi",
        "Tesco",
        "Uber",
        "Airbnb",
        "PayPal",
        "Visa",
        "Mastercard",
        "ChatGPT",
        "Siri",
        "Alexa",
        "Gemini",
        "Claude",
        "Llama",
        "Mistral",
        "OpenAI",
        "Wikipedia",
        "Reddit",
        "Discord",
        "Telegram",
        "Signal",
        "YouTube",
        "TikTok",
        "Bitcoin",
        "Europe",
        "Asia",
        "Africa",
        "America",
        "Australia",
        "Germany",
        "France",
        "Spain",
        "Italy",
        "England",
        "Britain",
        "Scotland",
        "Ireland",
        "Wales",
        "India",
        "China",
        "Japan",
        "Canada",
        "Mexico",
        "Brazil",
        "Russia",
        "Ukraine",
        "Poland",
        "Portugal",
        "Greece",
        "Turkey",
        "Egypt",
        "Israel",
        "Sweden",
        "Norway",
        "Denmark",
        "Finland",
        "Austria",
        "Switzerland",
        "Belgium",
        "Netherlands",
        "London",
        "Paris",
        "Berlin",
        "Rome",
        "Madrid",
        "Lisbon",
        "Vienna",
        "Munich",
        "Hamburg",
        "Dublin",
        "Boston",
        "Chicago",
        "York",
        "Angeles",
        "Francisco",
        "California",
        "Texas",
        "Florida",
        "Tokyo",
        "Beijing",
        "Delhi",
        "Mumbai",
        "Moscow",
        "Amsterdam",
        "Brussels",
        "Prague",
        "Warsaw",
        "Zurich",
        "Geneva",
        "Oxford",
        "Cambridge",
        "Dutch",
        "Polish",
        "Russian",
        "Arabic",
        "Hindi",
        "Latin",
        "Greek",
        "Turkish",
        "Portuguese",
        "Korean",
        "Swedish",
        "European",
        "African",
        "Asian",
        "Australian",
        "Canadian",
        "Mexican",
        "Irish",
        "Scottish",
        "Christmas",
        "Easter",
        "Hanukkah",
        "Ramadan",
        "Halloween",
        "Thanksgiving",
        "Internet",
        "English",
        "Bluetooth",
        "WiFi",
        "Wi-Fi",
        "PDF",
        "USB",
        "Mondays",
        "Fridays",
        "Sundays",
        "Happy",
        "Bluebird",
        "Buddhist",
        "Hindu",
        "Vegan",
        "Vegetarian",
        "Mars",
        "Earth",
        "Moon",
        "Sun",
        "North",
        "South",
        "East",
        "West",
        "Saint",
        "Mount",
        "Day",
        "Week",
        "Year",
        "Act",
        "Section",
    ]
)
_PLACE_WORDS: Final = frozenset(
    ["San", "Santa", "Saint", "St", "Fort", "Mount", "Port", "Lake", "Los", "Las", "El", "Google", "Visual"]
)
_NEVER_LOWER: Final = frozenset(
    [
        "is",
        "was",
        "has",
        "had",
        "and",
        "or",
        "who",
        "that",
        "in",
        "on",
        "at",
        "to",
        "of",
        "a",
        "the",
        "will",
        "said",
        "says",
        "just",
        "never",
        "always",
        "still",
        "can",
        "keeps",
        "thinks",
        "wants",
        "told",
        "asked",
        "got",
        "gets",
        "loves",
        "likes",
        "hates",
        "lives",
        "works",
        "went",
        "came",
        "back",
        "later",
        "when",
        "if",
        "it",
        "i",
        "he",
        "she",
        "we",
        "they",
        "you",
        "me",
        "crazy",
        "maybe",
        "lately",
        "again",
        "died",
        "moved",
        "called",
        "also",
        "would",
        "could",
        "should",
        "does",
        "did",
        "do",
        "are",
        "were",
        "am",
        "be",
        "been",
        "for",
        "from",
        "with",
        "about",
        "not",
        "no",
        "by",
        "as",
        "since",
        "because",
        "but",
        "so",
        "too",
        "very",
        "really",
        "after",
        "before",
        "now",
        "then",
        "today",
        "in-law",
        "there",
        "here",
        "out",
        "up",
        "down",
        "off",
        "over",
    ]
)


def find_names(text: str) -> Iterator[Finding]:
    """Names of people, as far as lists and the words before them show."""
    given, surnames = _lists()
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


@functools.cache
def _lists() -> tuple[frozenset[str], frozenset[str]]:
    lists = json.loads(Path(__file__).with_name("names.json").read_text(encoding="utf-8"))
    return frozenset(lists["given"]), frozenset(lists["surnames"])
