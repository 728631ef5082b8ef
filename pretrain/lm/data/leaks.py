"""Whether held-out documents stand in training: by runs of thirteen words, and by whole sentences.

A split by files or records is not enough: a book may lie beside its chapters, rows may be made of the same
few sentences. A document leaks when a fifth of its runs of 13 words, or more, stand in training; not at the
first, since most honest conversations share one. A source leaks when half of the sentences of its held-out
documents do.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from personality_common.errors import DataError
from pretrain.lm.chat import Document
from pretrain.lm.data.documents import said
from pretrain.lm.data.folder import Nearest

GRAM: Final = 13
"""Words in a run; of a shorter document, all of them."""
LEAK_SHARE: Final = 0.2
"""Of a document's distinct runs. The default split of 997 honest dialogues has a maximum of about that."""
SENTENCE: Final = 8
"""Words of the shortest sentence that counts: shorter ones are what everybody says."""
FEWEST_SENTENCES: Final = 50
"""Of a source, to judge it by."""
LEAK_SENTENCES: Final = 0.5
"""Of a source's distinct sentences: of honest dialogues 0.25, of rows made from templates 0.97."""
NAMED: Final = 5
"""Twins that the message names."""

Hashes = NDArray[np.uint64]
_END_OF_SENTENCE: Final = re.compile(r"[.!?\n]+(?:\s+|$)|\n")
_MULTIPLIERS: Final = np.random.default_rng(1).integers(1, 1 << 63, GRAM, np.uint64) | np.uint64(1)


@dataclass
class _Index:
    """Hashes of what is held out, by owner: a document, or a source.

    Attributes:
        hashes: sorted; the same one may have several owners.
        owners: of each.
        found: whether training has it.
    """

    hashes: Hashes
    owners: NDArray[np.int64]
    found: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        order = np.lexsort((self.owners, self.hashes))
        self.hashes, self.owners = self.hashes[order], self.owners[order]
        distinct = np.ones(len(order), bool)
        distinct[1:] = (np.diff(self.hashes) != 0) | (np.diff(self.owners) != 0)
        self.hashes, self.owners = self.hashes[distinct], self.owners[distinct]
        self.found = np.zeros(len(self.hashes), bool)

    def mark(self, hashes: Hashes) -> NDArray[np.int64]:
        """Note that training has these; returns the owners of those that are here, one for each."""
        left = np.searchsorted(self.hashes, hashes, "left")
        right = np.searchsorted(self.hashes, hashes, "right")
        hit = left < right
        places = [np.arange(a, b) for a, b in zip(left[hit], right[hit], strict=True)]
        if not places:
            return np.empty(0, np.int64)
        at = np.concatenate(places)
        self.found[at] = True
        owners: NDArray[np.int64] = self.owners[at]
        return owners

    def shares(self, owners: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """(owners,) share of each one's hashes that training has, and how many it has in all."""
        counts = np.bincount(self.owners, minlength=owners)
        found = np.bincount(self.owners, self.found, minlength=owners)
        return found / np.maximum(counts, 1), counts


class HeldOut:
    """What is held out, to compare training documents with; in memory are 17 bytes a word of it."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sources: list[str] = []
        self._source_of = array("q")
        self._grams: list[Hashes] = []
        self._sentences: list[tuple[int, Hashes]] = []
        self._index: _Index | None = None

    def add(self, document: Document) -> None:
        """A held-out document; all come before the first that is scanned."""
        if document.source not in self._sources:
            self._sources.append(document.source)
        source = self._sources.index(document.source)
        self._names.append(document.id)
        self._source_of.append(source)
        grams, sentences = _hashes(document)
        self._grams.append(grams)
        self._sentences.append((source, sentences))

    def scan(self, document: Document) -> None:
        """A training document."""
        if not self._names:
            return
        if self._index is None:
            self._freeze()
        assert self._index is not None
        grams, sentences = _hashes(document)
        self._by_source.mark(np.unique(sentences))
        owners, hits = np.unique(self._index.mark(np.unique(grams)), return_counts=True)
        better = hits > self._most[owners]
        for owner in owners[better]:
            self._twins[owner] = document.id
        self._most[owners[better]] = hits[better]

    def nearest(self) -> dict[str, Nearest]:
        """Of each source that has something in common with training, the document that has most.

        Raises:
            DataError: documents leak, or a source does; the message names the twins.
        """
        if self._index is None:
            return {}
        shares, _ = self._index.shares(len(self._names))
        leaks = np.flatnonzero(shares >= LEAK_SHARE)
        if len(leaks):
            raise DataError(self._leak(leaks[np.argsort(-shares[leaks], kind="stable")], shares))
        of_sources, counts = self._by_source.shares(len(self._sources))
        for source, share, count in zip(self._sources, of_sources, counts, strict=True):
            if count >= FEWEST_SENTENCES and share >= LEAK_SENTENCES:
                raise DataError(
                    f"leak: less than {LEAK_SENTENCES:.0%} of a source's held-out sentences may stand in "
                    f"training, of {source} {share:.0%} of {count} do: it is made from templates; group the "
                    "rows that share sentences, or give it held_out = false"
                )
        found: dict[str, Nearest] = {}
        for index in np.argsort(-shares, kind="stable"):
            if index in self._twins:
                source = self._sources[self._source_of[index]]
                found.setdefault(
                    source,
                    Nearest(self._names[index], self._twins[index], round(float(shares[index]), 4)),
                )
        return found

    def _freeze(self) -> None:
        self._index = _index(list(enumerate(self._grams)))
        self._by_source = _index(self._sentences)
        self._grams, self._sentences = [], []
        self._most = np.zeros(len(self._names), np.int64)
        self._twins: dict[int, str] = {}

    def _leak(self, leaks: NDArray[np.int64], shares: NDArray[np.float64]) -> str:
        named = "; ".join(
            f"{self._names[i]} has {shares[i]:.0%} in common with training, most with {self._twins[i]}"
            for i in leaks[:NAMED]
        )
        more = f"; and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
        return (
            f"leak: less than {LEAK_SHARE:.0%} of a held-out document's {GRAM}-grams may stand in training: "
            f"{named}{more}; put twins into one group, or name one of each in the source's exclude"
        )


def _index(parts: list[tuple[int, Hashes]]) -> _Index:
    owners = np.repeat([owner for owner, _ in parts], [len(hashes) for _, hashes in parts])
    return _Index(np.concatenate([hashes for _, hashes in parts]), owners.astype(np.int64))


def _hashes(document: Document) -> tuple[Hashes, Hashes]:
    """Of a document's runs of words, and of its sentences."""
    text = said(document).lower()
    # Python's own hash: salted, so that no data can be made to collide. One process makes all of them.
    words = np.array([hash(word) for word in text.split()], np.int64).view(np.uint64)
    sentences = [tuple(sentence.split()) for sentence in _END_OF_SENTENCE.split(text)]
    whole = [hash(sentence) for sentence in sentences if len(sentence) >= SENTENCE]
    return _runs(words), np.array(whole, np.int64).view(np.uint64)


def _runs(words: Hashes) -> Hashes:
    if len(words) < GRAM:
        return np.array([(words * _MULTIPLIERS[: len(words)]).sum(dtype=np.uint64)], np.uint64)
    count = len(words) - GRAM + 1
    found = np.zeros(count, np.uint64)
    for place, multiplier in enumerate(_MULTIPLIERS):
        found += words[place : place + count] * multiplier
    return found
