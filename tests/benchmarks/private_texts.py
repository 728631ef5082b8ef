"""Sentences with made-up personal data, and where it is: of templates, and by hand."""

from __future__ import annotations

import base64
import json
import random
import re
import string
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from faker import Faker

from device_sim.companion.privacy.findings import Finding

FIXTURES: Final = Path(__file__).parents[2] / "fixtures"
LOCALES: Final = ("en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL")
_KIND_OF: Final = {"name": "person", "first_name": "person", "last_name": "person", "password": "secret"}


class Marked(NamedTuple):
    text: str
    truth: tuple[Finding, ...]


def templates(half: str) -> list[str]:
    with (FIXTURES / "privacy-templates.toml").open("rb") as file:
        return list(tomllib.load(file)[half])


def generated(half: str, draws: int, seed: int) -> Iterator[Marked]:
    """`draws` sentences of each template of a half, `chosen` or `reported`."""
    maker = _Maker(seed)
    for template in templates(half):
        for _ in range(draws):
            yield _fill(template, lambda kind: (_KIND_OF.get(kind, kind), getattr(maker, kind)()))


def by_hand(seed: int) -> tuple[list[Marked], list[str]]:
    """Sentences with personal data, and without any."""
    maker = _Maker(seed)
    with (FIXTURES / "privacy-hard.toml").open("rb") as file:
        hard = tomllib.load(file)
    personal = []
    for line in hard["personal"]:
        filled = re.sub(r"\{(\w+)\}", lambda found: maker.key(found[1]), line)
        texts = re.split(r"\[\[(\w+):(.*?)\]\]", filled, flags=re.S)
        text, truth = texts[0], []
        for kind, value, after in zip(texts[1::3], texts[2::3], texts[3::3], strict=True):
            truth.append(Finding(kind, len(text), len(text) + len(value)))
            text += value + after
        personal.append(Marked(text, tuple(truth)))
    return personal, list(hard["harmless"])


def _fill(template: str, make: Callable[[str], tuple[str, str]]) -> Marked:
    text, truth, at = "", [], 0
    for found in re.finditer(r"\{(\w+)\}", template):
        text += template[at : found.start()]
        kind, value = make(found[1])
        truth.append(Finding(kind, len(text), len(text) + len(value)))
        text += value
        at = found.end()
    return Marked(text + template[at:], tuple(truth))


class _Maker:
    """Makes up one of each kind; places and names come from eight locales."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.fakers = []
        for i, locale in enumerate(LOCALES):
            one = Faker(locale)
            one.seed_instance(seed + i)
            self.fakers.append(one)
        self.english = self.fakers[0]

    def _any(self) -> Faker:
        return self.random.choice(self.fakers)

    def _of(self, alphabet: str, length: int) -> str:
        return "".join(self.random.choices(alphabet, k=length))

    def email(self) -> str:
        return str(self._any().email())

    def phone(self) -> str:
        return str(self.random.choice(self.fakers[:6]).phone_number())

    def card(self) -> str:
        digits = self.english.credit_card_number(
            self.random.choice(["visa16", "mastercard", "amex", "discover"])
        )
        gap = self.random.choice(["", " ", "-"])
        return gap.join(re.findall(r".{1,4}", digits))

    def iban(self) -> str:
        iban = self.random.choice(self.fakers[1:2] + self.fakers[3:]).iban()
        return self.random.choice([iban, " ".join(re.findall(r".{1,4}", iban))])

    def ip(self) -> str:
        return str(self.random.choice([self.english.ipv4, self.english.ipv4, self.english.ipv6])())

    def ssn(self) -> str:
        return str(self.english.ssn())

    def address(self) -> str:
        return str(self._any().address()).replace("\n", self.random.choice([", ", ", ", "\n"]))

    def birth_date(self) -> str:
        day = self.english.date_of_birth(minimum_age=5, maximum_age=90)
        form = self.random.choice(
            ["%Y-%m-%d", "%d/%m/%Y", "%m/%d/%y", "%d.%m.%Y", "%B %d, %Y", "%d %B %Y", "%B %d"]
        )
        return day.strftime(form)

    def name(self) -> str:
        one = self._any()
        return f"{one.first_name()} {one.last_name()}"

    def first_name(self) -> str:
        return str(self._any().first_name())

    def last_name(self) -> str:
        return str(self._any().last_name())

    def password(self) -> str:
        one, other = self.english.word(), self.english.word()
        plain = self.english.password(self.random.randint(8, 16)).translate(str.maketrans("\"',", "xyz"))
        number = self.random.randint(10, 9999)
        return str(self.random.choice([f"{one}{number}", f"{one.title()}-{other}-{number % 100}", plain]))

    def secret(self) -> str:
        return self.key(self.random.choice(sorted(set(_KEYS) - {"private_key"})))

    def key(self, maker: str) -> str:
        return _KEYS[maker](self)

    def _jwt(self) -> str:
        head, body = ({"alg": "HS256", "typ": "JWT"}, {"sub": self._of(string.digits, 10), "name": "x"})
        parts = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in (head, body)]
        return ".".join([*parts, self._of(_URL, 43)])

    def _private_key(self) -> str:
        lines = "\n".join(self._of(_URL.replace("-", "+").replace("_", "/"), 64) for _ in range(12))
        return f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n-----END RSA PRIVATE KEY-----"


_ALNUM: Final = string.ascii_letters + string.digits
_URL: Final = _ALNUM + "-_"
_HEX: Final = "0123456789abcdef"
_KEYS: Final[dict[str, Callable[[_Maker], str]]] = {
    "aws": lambda m: "AKIA" + m._of(string.ascii_uppercase + "234567", 16),
    "github": lambda m: m.random.choice(["ghp_", "gho_", "ghs_"]) + m._of(_ALNUM, 36),
    "github_fine": lambda m: f"github_pat_{m._of(_ALNUM, 22)}_{m._of(_ALNUM, 59)}",
    "gitlab": lambda m: "glpat-" + m._of(_URL[:62], 20),
    "google": lambda m: "AIza" + m._of(_URL[:62], 35),
    "huggingface": lambda m: "hf_" + m._of(string.ascii_letters, 34),
    "jwt": lambda m: m._jwt(),
    "mailchimp": lambda m: m._of(_HEX, 32) + "-us" + str(m.random.randint(1, 21)),
    "npm": lambda m: "npm_" + m._of(_ALNUM, 36),
    "openai": lambda m: "sk-proj-" + m._of(_URL[:62], 48),
    "anthropic": lambda m: "sk-ant-api03-" + m._of(_URL[:62], 95),
    "private_key": lambda m: m._private_key(),
    "pypi": lambda m: "pypi-AgEIcHlwaS5vcmc" + m._of(_URL[:62], 90),
    "sendgrid": lambda m: f"SG.{m._of(_URL[:62], 22)}.{m._of(_URL[:62], 43)}",
    "slack": lambda m: f"xoxb-{m._of(string.digits, 12)}-{m._of(string.digits, 12)}-{m._of(_ALNUM, 24)}",
    "stripe": lambda m: m.random.choice(["sk_live_", "sk_test_", "rk_live_"]) + m._of(_ALNUM, 24),
    "telegram": lambda m: f"{m._of('123456789', 10)}:AA{m._of(_URL[:62], 33)}",
    "twilio": lambda m: "SK" + m._of(_HEX, 32),
}
