"""Keys by their makers' forms, and passwords by the words before them.

The named detectors of detect-secrets, and forms that it lacks. Its entropy detectors are left out: they take most
sentences for secrets; OpenAI's too: its time grows with the square of the text. Their patterns are used and nothing else of them: `verify` would ask a network.
"""

# ruff: noqa: E501  (a pattern broken over lines reads worse)

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final

from .findings import Finding

_DETECTORS: Final = {
    "artifactory": "ArtifactoryDetector",
    "aws": "AWSKeyDetector",
    "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "mailchimp": "MailchimpDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
_FORMS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?<![\w-])github_pat_\w{22,90}",
        r"(?<![\w-])(?:sk|pk)-(?:ant|proj|svcacct|admin|or|lf)-[\w-]{16,220}",
        r"(?<![\w-])sk-[A-Za-z0-9]{32,64}\b",
        r"(?<![\w-])(?:sk|rk|pk|whsec)_(?:live_|test_)?[0-9A-Za-z]{20,120}\b",
        r"(?<![\w-])AIza[\w-]{35}",
        r"(?<![\w-])ya29\.[\w-]{20,300}",
        r"(?<![\w-])GOCSPX-[\w-]{20,40}",
        r"(?<![\w-])hf_[A-Za-z0-9]{30,40}\b",
        r"(?<![\w-])npm_[A-Za-z0-9]{36}\b",
        r"(?<![\w-])pypi-[\w-]{50,250}",
        r"(?<![\w-])xox[a-z](?:\.xox[a-z])?-[\w-]{10,250}",
        r"(?<![\w-])xapp-\d-[\w-]{10,250}",
        r"(?<![\w-])(?:dop|doo|dor)_v1_[0-9a-f]{64}",
        r"(?<![\w-])shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}",
        r"(?<![\w-])(?:r8|gsk|xai|pplx|lin_api|ntn|secret|fo1|dapi|nvapi|figd|tskey)[_-][A-Za-z0-9_-]{24,120}",
        r"(?<![\w-])key-[0-9a-f]{32}\b",
        # A JSON Web Token: {" in base64url, then two more parts.
        r"(?<![\w-])eyJ[\w-]{8,4000}={0,2}\.[\w-]{4,4000}={0,2}(?:\.[\w-]{0,2000})?",
        # user:password@ in an address, with the scheme if it is a database's.
        r"(?<![\w])(?:postgres(?:ql)?|mysql|mongodb(?:\+srv)?|redis|amqp)://[^\s:/@]{0,64}:[^\s/@]{1,128}@[^\s'\"<>]{1,256}",
        r"(?<=://)[^\s:/@]{1,64}:[^\s/@]{1,128}(?=@)",
    )
)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PRIVATE_KEY_END: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")

_WORD: Final = (
    r"(?:pass ?word|passwort|passwd|pwd|pass ?phrase|pass ?code|pin|api[_ -]?key|access[_ -]?key|secret[_ -]?key|"
    r"client[_ -]?secret|auth[_ -]?token|access[_ -]?token|api[_ -]?token|private[_ -]?key|secret|token|bearer)"
)
_AFTER: Final = re.compile(
    rf"(?<![a-z]){_WORD}(?:[ _](?:is|was|for [\w. -]{{1,24}}?is|number is|number))?(?P<sign>\s?[:=]{{1,2}}\s?|\s)"
    r"(?P<quote>[\"'`]?)(?P<value>[^\s\"'`,]{3,200})",
    re.I,
)
_QUOTED: Final = re.compile(
    rf"(?<![a-z]){_WORD}[\"']?(?: is|\s?[:=])\s?(?P<quote>[\"'`])(?P<value>[^\"'`\n]{{3,200}})(?P=quote)",
    re.I,
)
_BEFORE: Final = re.compile(
    rf"(?P<value>[^\s\"'`,]{{4,64}})[\"'`]? (?:as|is) (?:my|our|the|her|his) {_WORD}", re.I
)


def find_private_keys(text: str) -> Iterator[Finding]:
    """Blocks of PEM; one without an end goes to the end of the text."""
    at = 0
    while found := _PRIVATE_KEY.search(text, at):
        end = _PRIVATE_KEY_END.search(text, found.end())
        at = end.end() if end else len(text)
        yield Finding("secret", found.start(), at)


def find_secrets(text: str) -> Iterator[Finding]:
    """Keys, tokens, and what is said to be a password."""
    for pattern in (*_FORMS, *_named_detectors()):
        for found in pattern.finditer(text):
            start, end = found.span()
            if found[0].startswith("://"):
                start, end = start + 3, end - 1
            yield Finding("secret", start, end)
    for pattern in (_QUOTED, _AFTER, _BEFORE):
        for found in pattern.finditer(text):
            assigned = (
                pattern is _QUOTED
                or bool(found.groupdict().get("quote"))
                or (pattern is _AFTER and found["sign"].strip() != "")
            )
            value = found["value"].rstrip(".!?;:)]}")
            if value and _is_said(value, found[0].lower(), assigned):
                yield Finding("secret", found.start("value"), found.start("value") + len(value))


def _is_said(value: str, phrase: str, assigned: bool) -> bool:
    """Whether what follows "password" is one: after = or : anything, in a sentence no plain word."""
    if value.startswith(("[", "$", "{", "<", "%")) or value.lower() in _NO_VALUES:
        return False
    mixed = any(c.isdigit() for c in value) or any(not c.isalnum() for c in value.strip("-'’"))
    if re.match(r"pin\b", phrase):
        return value.isdigit() and 4 <= len(value) <= 8
    if re.match(r"(?:pass|pwd)", phrase) or re.search(r"\bmy pass", phrase):
        return assigned or (
            mixed and (any(c.isdigit() for c in value) or not value.replace("-", "").isalpha())
        )
    digits = any(c.isdigit() for c in value)
    return len(value) >= 8 and digits and (assigned or any(c.isalpha() for c in value))


_NO_VALUES: Final = frozenset(
    [
        "none",
        "null",
        "true",
        "false",
        "str",
        "string",
        "your",
        "yours",
        "optional",
        "required",
        "input",
        "getpass",
        "os.environ",
        "self.",
        "xxx",
        "xxxx",
        "****",
    ]
)


@functools.cache
def _named_detectors() -> tuple[re.Pattern[str], ...]:
    import importlib

    return tuple(
        pattern
        for module, name in _DETECTORS.items()
        for pattern in getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name).denylist
    )
