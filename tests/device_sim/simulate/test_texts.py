"""What a text becomes does not depend on the texts that are embedded with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from device_sim.heads.shipped import PART, open_shipped
from device_sim.runtimes.opening import evaluate, open_runtime
from device_sim.simulate.texts import choose_rows, choose_texts, latents_of, one_by_one, split_texts

TEXTS = str(Path(__file__).parents[3] / "fixtures" / "conversations.jsonl")


@pytest.mark.parametrize("name", ["mil", "torch"])
def test_latents_have_the_same_bits_in_any_company(bundle: Path, name: str) -> None:
    verified = open_shipped(bundle)
    runtime = open_runtime(name, verified.package(PART), verified.places(PART))  # type: ignore[arg-type]
    embeddings = np.random.default_rng(0).standard_normal((70, 1536)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    found = latents_of(runtime, embeddings)
    assert (found.shape, found.dtype) == ((70, 512), np.float32)
    order = np.random.default_rng(1).permutation(70)
    for rows in (order, order[:13], order[:1]):
        assert latents_of(runtime, embeddings[rows]).tobytes() == found[rows].tobytes()
    with threadpool_limits(2):
        assert latents_of(runtime, embeddings[:5]).tobytes() == found[:5].tobytes()
    # In batches of 64 the sums are in another order: equal to float32's rounding, of values near 1.
    np.testing.assert_allclose(evaluate(runtime, embeddings)[0], found, rtol=0, atol=1e-5)


def test_an_encoder_sees_each_text_alone() -> None:
    seen = []

    def encode(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        seen.append(tuple(texts))
        value = np.array([[len(t)] for t in texts], np.float32)
        return value, -value

    base, embeddings = one_by_one(encode)(["a", "bcd", "ef"])
    assert seen == [("a",), ("bcd",), ("ef",)]
    assert base.tolist() == [[1], [3], [2]]
    assert embeddings.tolist() == [[-1], [-3], [-2]]


def test_rows_and_texts_are_chosen_alike() -> None:
    everything = split_texts(TEXTS, 20)
    chosen = choose_texts(TEXTS, 20, 7)
    training, held_out = choose_rows(len(everything.training), len(everything.held_out), 20, 7)
    assert chosen.training == tuple(everything.training[i] for i in training)
    assert chosen.held_out == tuple(everything.held_out[i] for i in held_out)
    assert not set(everything.training) & set(everything.held_out)
    assert choose_texts(TEXTS, 20, 8) != chosen
    assert [len(rows) for rows in choose_rows(1000, 400, 20, 7)] == [20, 300]
