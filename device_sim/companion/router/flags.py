"""What a text shows without an encoder, and the route that a few rules take from it."""

# ruff: noqa: E501  (a pattern broken over lines reads worse)

from __future__ import annotations

import re
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Label = Literal["adapter", "memory", "both", "neither"]
LABELS: Final[tuple[Label, ...]] = ("adapter", "memory", "both", "neither")
LONGEST: Final = 4_000
"""Code points that are looked at; what a record is about, its beginning says."""

_PATTERNS: Final = {
    "code": r"```|`[^`]+`|[{};]\s*$|\bdef \w+\(|</?\w+>|\b(?:SELECT|import|return|Traceback|ERROR|ERR!)\b",
    "address": r"https?://|www\.",
    "json": r"^\s*[\[{].*[\]}]\s*$",
    "digits": r"\d",
    "first person": r"\b(?:i|i'm|i've|i'd|i'll|my|me|mine|we|we're|we've|our|us)\b",
    "says a fact of the user": r"\b(?:i|we)(?:'m| am|'ve| have| live| moved| work| use| hate| love| was| had| keep| can't| don't| run| bought| started| grew)\b"
    r"|\b(?:my|our) \w+(?: \w+)?(?: is| are| was| has| have| can| starts| died| told| says| lives)\b",
    "second person": r"\b(?:you|your|you're|yours)\b",
    "instruction": r"(?:^|[,.;:!] ?|\bso |\bplease |\band )(?:please |just |always |never |only |then )*"
    r"(?:answer|reply|write|use|keep|be|give|add|stop|skip|drop|make|talk|speak|say|explain|show|act|put|don't|do not|avoid|ask|tell|"
    r"call|remind|quiz|correct|start|leave|format|sound|go|format|check|plan|suggest)\b",
    "lasting": r"\b(?:always|never|from now on|every time|each time|every|ever|in (?:the )?future|future|in general|generally|again|"
    r"more often|all the time|all our chats|for a while|keep it like|stay with)\b",
    "once": r"\b(?:this (?:one|time|once)|that last|the last|once more|again in|for tonight|now the same|right now|today)\b",
    "about answers": r"\b(?:answers?|repl(?:y|ies)|messages?|responses?|style|tone|format|wording|language|explanations?|explain(?:ing)?|"
    r"sentences?|paragraphs?|bullets?|bullet points?|lists?|tables?|emojis?|jokes?|words?|short|shorter|brief|concise|detail(?:ed)?|longer|formal|"
    r"informal|polite|friendly|jargon|disclaimers?|markdown|headings?)\b",
    "remember": r"\b(?:remember|don't forget|keep in mind|note (?:that|for)|for later|memori[sz]e)\b",
    "therefore": r"(?:, | and |\bso (?:that )?)(?:please |always |never |only |no |don't |keep |answer |use |be |give |write |say |stop |explain |so |you can |i )",
    "question": r"\?",
    "asks": r"^(?:what|who|when|where|why|how|which|is|are|do|does|did|can|could|should|would|if)\b",
    "time": r"\b(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|january|february|march|april|may|june|july|august|"
    r"september|october|november|december|yesterday|tomorrow|today|tonight|week|month|year|years|since|ago|last|next|morning)\b",
    "task": r"^(?:please )?(?:write|draft|translate|summari[sz]e|shorten|rewrite|make up|tell me a|fix|convert|find|recommend|suggest|give me|make|"
    r"explain this|complete|compose|generate|list|compare|calculate|go on|continue|proofread|paraphrase|correct this|put into|invent|turn|name)\b",
    "quoted": r"[\"“][^\"”]{8,}[\"”]",
    "pretends": r"\b(?:imagine|suppose|pretend|assum(?:e|ing)|picture this|let(?:'s| us) (?:say|play|assume)|for the sake of argument|role[ -]?play|"
    r"in (?:my|the|this|our|a) (?:story|novel|book|film|movie|game|play)|the novel|the hero|my (?:character|hero)|fiction(?:al)?)\b"
    r"|\byou(?:'re| are) (?:the|a|an) \w+(?: \w+)?(?:,| and) (?:and )?i(?:'m| am)\b",
    "of that answer": r"\b(?:make|put|give me|give|turn|say|repeat|rewrite|explain|drop|shorten|translate) (?:that|it|this|the last|your last|your list)\b"
    r"|\b(?:same thing|once more|of that|for this|in (?:one|two|three) (?:sentences?|words))\b",
    "asks for anyone": r"^(?:(?:what|how|where|when|why|which)(?: \w+){0,2} )?(?:do|can|should|may|am|must|could) (?:i|we|one|you)\b"
    r"|^how to\b|^(?:is|are) (?:it|there)\b",
    "asks you": r"^(?:can|could|would|will|do|don't|must|why (?:do|are|can't)) (?:you|your|we)\b",
    "wants of you": r"\b(?:i (?:want|need|prefer|like|love|hate|don't like|don't want|don't need|can't stand)|i'd (?:like|love|rather))\b.*\b(?:you|your|answers?|"
    r"repl(?:y|ies)|lists?|bullets?|bullet points|introductions?|paragraphs?|examples?)\b",
    "somebody of mine wants": r"\b(?:my|our|the) (?:\w+ ){0,2}(?:says?|said|told|wants?|asked|likes?|finds?)\b",
}
_COMPILED: Final = {name: re.compile(pattern, re.I | re.S) for name, pattern in _PATTERNS.items()}
NAMES: Final = (*_PATTERNS, "length", "words", "very short", "lines", "exclamation", "more than one sentence")


def flags(text: str) -> NDArray[np.float32]:
    """(len(NAMES),) float32, each about 0 to 1."""
    text = text[:LONGEST]
    words = len(text.split())
    shape = (
        np.log1p(len(text)) / np.log1p(LONGEST),
        np.log1p(words) / 6,
        words <= 3,
        "\n" in text,
        "!" in text,
        len(re.findall(r"[.!?](?:\s|$)", text)) > 1,
    )
    found = [pattern.search(text) is not None for pattern in _COMPILED.values()]
    return np.array([*found, *shape], np.float32)


def heuristic(text: str) -> Label:
    """The route by rules alone: the baseline that the fitted router must beat."""
    has = dict(zip(NAMES, flags(text) > 0.5, strict=True))
    if has["code"] or has["json"] or has["very short"] or has["task"] or has["once"] or has["pretends"]:
        return "neither"
    style = has["about answers"] and (has["instruction"] or has["lasting"] or has["second person"])
    fact = has["says a fact of the user"] or has["remember"]
    if style or fact:
        return "both" if style and fact else "adapter" if style else "memory"
    if has["question"] or has["asks"]:
        return "neither"
    if has["instruction"] and (has["lasting"] or has["first person"]):
        return "adapter"
    return "memory" if has["first person"] else "neither"
