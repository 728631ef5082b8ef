"""Kneser-Ney, against values by hand and against the definition, counted n-gram by n-gram."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from pretrain.lm.kneser_ney import KneserNey, discounts_of


def arrays(documents: list[list[int]]) -> list[np.ndarray]:
    return [np.array(document, np.int64) for document in documents]


def after(model: KneserNey, *context: int) -> list[float]:
    """Of each token but padding, after a document's beginning."""
    tokens = range(1, model.vocab_size)
    return [float(model.probabilities(arrays([[*context, token]]))[-1]) for token in tokens]


def test_values_by_hand() -> None:
    """Bigrams ^1 x3, 12 x2, 13, ^4, 42; 2 follows two tokens, the others one each; too few for discounts."""
    model = KneserNey(arrays([[1, 2], [1, 2], [1, 3], [4, 2]]), 5, order=2)
    half, even = 0.75 * 2 / 3, 0.75 * 4 / 5 / 4
    unigrams = [0.25 / 5 + even, 1.25 / 5 + even, 0.25 / 5 + even, 0.25 / 5 + even]
    assert unigrams == pytest.approx([0.2, 0.4, 0.2, 0.2])
    assert after(model, 1) == pytest.approx(
        [half * 0.2, 1.25 / 3 + half * 0.4, 0.25 / 3 + half * 0.2, half * 0.2]
    )
    assert after(model) == pytest.approx([0.5625 + 0.075, 0.15, 0.075, 0.25 / 4 + 0.075])
    # Nothing goes on from 2, so nothing is known of what does.
    assert after(model, 2) == pytest.approx(unigrams)
    assert model.probabilities(arrays([[1, 2], [4, 3]])) == pytest.approx([0.6375, 0.6166667, 0.1375, 0.15])


def test_discounts_by_hand() -> None:
    """n1 to n4 are 4, 2, 1, 1: Y is 1/2."""
    counts = np.array([1, 1, 1, 1, 2, 2, 3, 4, 0, 0, 9])
    assert discounts_of(counts).tolist() == [0.0, 0.5, 1.25, 1.0]
    assert discounts_of(np.array([1, 1, 2])).tolist() == [0.0, 0.75, 0.75, 0.75]


def by_definition(
    documents: list[list[int]], vocab_size: int, order: int, context: list[int], token: int
) -> Fraction:
    """From n-grams as tuples, with fractions."""
    grams: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order + 1)]
    for document in documents:
        padded = [0] * (order - 1) + document
        for end in range(order, len(padded) + 1):
            grams[order][tuple(padded[end - order : end])] += 1
    for length in range(order - 1, 0, -1):
        # A shorter n-gram counts once for each token that stands before it.
        longer = {gram[-length - 1 :] for gram in grams[order]}
        grams[length] = Counter(gram[1:] for gram in longer)
    p = Fraction(1, vocab_size - 1)
    for length in range(1, order + 1):
        n = Counter(grams[length].values())
        discounts: list[Fraction] = [Fraction(0), *[Fraction(3, 4)] * 3]
        # Of 11 single tokens there are too few.
        if length > 1:
            y = Fraction(n[1], n[1] + 2 * n[2])
            discounts[1:] = [Fraction(k) - (k + 1) * y * Fraction(n[k + 1], n[k]) for k in (1, 2, 3)]
        history = tuple(([0] * order + context)[order + len(context) - length + 1 :])
        following = {gram[-1]: count for gram, count in grams[length].items() if gram[:-1] == history}
        total = sum(following.values())
        if total:
            own = following.get(token, 0)
            taken = sum((discounts[min(count, 3)] for count in following.values()), Fraction(0))
            p = (own - discounts[min(own, 3)]) / Fraction(total) + taken / total * p
    return p


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    """Tokens 1 to 11, of which few are common, each drawn with a view to the one before."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(120):
        document = [int(rng.integers(1, 12))]
        for _ in range(int(rng.integers(3, 14))):
            document.append(int(min(11, (document[-1] * 3) % 7 + rng.geometric(0.45))))
        made.append(document)
    return made


def test_the_definition(documents: list[list[int]]) -> None:
    model = KneserNey(arrays(documents), 12, order=3)
    for document in [*documents[:2], [11, 10, 11, 9, 8], [1]]:
        found = model.probabilities(arrays([document]))
        for place, token in enumerate(document):
            expected = by_definition(documents, 12, 3, document[:place], token)
            assert found[place] == pytest.approx(float(expected), abs=1e-12)


def test_probabilities_add_up_to_one(documents: list[list[int]]) -> None:
    model = KneserNey(arrays(documents), 12)
    for context in ([], documents[0][:5], documents[3][:2], [11, 11, 11, 11, 11], [10, 1, 10]):
        assert sum(after(model, *context)) == pytest.approx(1, abs=1e-12)


def test_what_was_seen_is_likelier_than_what_was_not(documents: list[list[int]]) -> None:
    model = KneserNey(arrays(documents), 12)
    seen = np.log2(model.probabilities(arrays(documents))).mean()
    rng = np.random.default_rng(1)
    shuffled = [list(rng.permutation(document)) for document in documents]
    assert seen > np.log2(model.probabilities(arrays(shuffled))).mean() + 1
