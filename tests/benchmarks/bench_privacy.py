"""What the privacy filter finds and misses, by kind, and what it flags that is harmless.

    python tests/benchmarks/bench_privacy.py [--draws 20] [--presidio]

Prints JSON. A finding counts if its kind is right and it covers every letter and digit of what is personal; a
false one touches nothing personal. Intervals are Wilson's, 95%. `--presidio` adds presidio-analyzer with a
blank spaCy pipeline on the same sentences. The ratios are recalls on the reported templates.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from private_texts import Marked, by_hand, generated

from device_sim.companion.privacy.filter import Filter
from device_sim.companion.privacy.findings import KINDS, Finding
from personality_common.evidence.intervals import Z95

STRUCTURED: Final = ("email", "phone", "card", "iban", "ip", "ssn", "secret")
_PRESIDIO: Final = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "ssn",
}

Find = Callable[[str], list[Finding]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--presidio", action="store_true")
    options = parser.parse_args()
    personal, harmless = by_hand(seed=0)
    sets = {
        "chosen": list(generated("chosen", options.draws, seed=0)),
        "reported": list(generated("reported", options.draws, seed=1)),
        "by hand": personal,
    }
    find = Filter("mask").find
    started = time.process_time()
    find("Anna, 1.2.3.4")
    first = time.process_time() - started
    report: dict[str, Any] = {name: figures(sentences, find) for name, sentences in sets.items()}
    flagged = [text for text in harmless if find(text)]
    report["harmless flagged"] = {"of": len(harmless), "flagged": flagged}
    texts = [one.text for one in sets["reported"]]
    started = time.process_time()
    for text in texts:
        find(text)
    report["seconds"] = {"first text": first, "each text": (time.process_time() - started) / len(texts)}
    if options.presidio:
        other = presidio()
        report["presidio, blank"] = figures(sets["reported"], other)
    reported = report["reported"]
    report["ratios"] = {
        f"recall of {kind}": reported[kind]["recall"] for kind in ("structured", "person", "address")
    }
    print(json.dumps(report, indent=2))


def figures(sentences: Iterable[Marked], find: Find) -> dict[str, dict[str, Any]]:
    """Recall and precision of each kind, and of the structured ones together."""
    total, found, false = Counter[str](), Counter[str](), Counter[str]()
    for text, truth in sentences:
        findings = find(text)
        for one in truth:
            total[one.kind] += 1
            found[one.kind] += covered(text, one, findings)
        for one in findings:
            false[one.kind] += not any(one.start < t.end and t.start < one.end for t in truth)
    rows = {kind: (found[kind], total[kind], false[kind]) for kind in KINDS if total[kind]}
    rows["structured"] = tuple(sum(counts[k] for k in STRUCTURED) for counts in (found, total, false))  # type: ignore[assignment]
    return {
        kind: {
            "n": n,
            "recall": hits / n,
            "recall interval": wilson(hits, n),
            "precision": hits / (hits + wrong) if hits + wrong else None,
            "precision interval": wilson(hits, hits + wrong),
        }
        for kind, (hits, n, wrong) in rows.items()
    }


def covered(text: str, one: Finding, findings: list[Finding]) -> bool:
    seen = {i for f in findings if f.kind == one.kind for i in range(f.start, f.end)}
    return all(i in seen for i in range(one.start, one.end) if text[i].isalnum())


def wilson(hits: int, n: int) -> list[float]:
    """Wilson's score interval of a share (Wilson 1927)."""
    if n == 0:
        return [0.0, 1.0]
    share, z2 = hits / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5 / (1 + z2 / n)
    return [round(middle - half, 4), round(middle + half, 4)]


def presidio() -> Find:
    """presidio-analyzer's recognizers on a blank spaCy pipeline; nothing is downloaded."""
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    class Blank(SpacyNlpEngine):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}

        def load(self) -> None: ...

    engine = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])

    def find(text: str) -> list[Finding]:
        results = engine.analyze(text=text, language="en", entities=list(_PRESIDIO), score_threshold=0.0)
        return [Finding(_PRESIDIO[r.entity_type], r.start, r.end) for r in results]

    return find


if __name__ == "__main__":
    main()
