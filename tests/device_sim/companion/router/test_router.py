"""The router that ships: what it was fitted to, what it says of new records, and whom it refuses."""

import dataclasses
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from device_sim.companion.router.flags import LABELS, NAMES, flags, heuristic
from device_sim.companion.router.records import read_records, read_seed, seed_sha256
from device_sim.companion.router.router import STORED, Router
from device_sim.companion.routing import routing
from personality_common.errors import MismatchError
from personality_common.files.atomic import read_json_object
from personality_common.terminal.progress import Reporter
from personality_common.text.encoder import load_encoder
from personality_common.text.identity import Encoder

CASES = Path(__file__).resolve().parents[4] / "fixtures" / "router-cases.toml"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("minilm", "cpu", torch.float32)


def test_seed() -> None:
    records = read_seed()
    assert len(records) >= 400
    assert len({one.text.lower() for one in records}) == len(records)
    assert {one.label for one in records} == set(LABELS)
    assert min(Counter(one.label for one in records).values()) >= 90
    assert sum(one.hard for one in records) >= 100
    labels = {one.family: {one.label} for one in records}
    assert all(labels[one.family] == {one.label} for one in records)


def test_cases_are_not_in_the_seed() -> None:
    cases = read_records(CASES)
    assert len(cases) == 128
    assert sum(one.hard for one in cases) == 64
    assert not {one.text.lower() for one in cases} & {one.text.lower() for one in read_seed()}


def test_bars_on_the_cases(encoder: Encoder) -> None:
    router, cases = Router.open(encoder.identity), [one for one in read_records(CASES) if one.hard]
    embeddings = encoder.encode([one.text for one in cases])
    routes = [router.route(one.text, row) for one, row in zip(cases, embeddings, strict=True)]
    answered = [(one, route) for one, route in zip(cases, routes, strict=True) if not route.abstained]
    wrong = sum(route.label != one.label for one, route in answered) / len(answered)
    rules = sum(heuristic(one.text) != one.label for one in cases) / len(cases)
    assert len(answered) >= 0.8 * len(cases)
    assert wrong <= rules / 2


def test_stored_coefficients_are_of_this_seed() -> None:
    stored = read_json_object(STORED)
    assert stored["seed_sha256"] == seed_sha256(), "python -m device_sim.companion.router"
    assert tuple(stored["flags"]) == NAMES
    assert 0.25 < stored["threshold"] < 0.9
    # A pattern of the flags that changed moves a mean: fit again then, too.
    means = np.array([flags(one.text) for one in read_seed()]).mean(axis=0, dtype=np.float64)
    assert stored["means"] == pytest.approx(means.tolist(), abs=2e-5)


# Written after the fit, and in no family of the seed.
NEW = [
    ("My cousin Ada plays the oboe in Bergen.", "memory"),
    ("The car is in the garage until Wednesday.", "memory"),
    ("I'm scared of heights.", "memory"),
    ("Please keep every reply under fifty words.", "adapter"),
    ("Stop using so many adjectives in your answers.", "adapter"),
    ("From now on answer me in Portuguese.", "adapter"),
    ("I'm a pharmacist, so use the proper names of drugs when you answer me.", "both"),
    ("I have only one arm, so always adapt instructions for that.", "both"),
    ("What is the boiling point of ethanol?", "neither"),
    ("thanks a lot!", "neither"),
    ("Write a slogan for a shoe shop.", "neither"),
    ("ok cool", "neither"),
]


def test_new_records(encoder: Encoder) -> None:
    router = Router.open(encoder.identity)
    found = [
        router.route(text, row)
        for (text, _), row in zip(NEW, encoder.encode([t for t, _ in NEW]), strict=True)
    ]
    wrong = [
        (text, label, route)
        for (text, label), route in zip(NEW, found, strict=True)
        if route.label != label and not route.abstained
    ]
    assert len(wrong) <= 1, wrong
    assert sum(route.abstained for route in found) <= 3
    for route in found:
        assert set(route.scores) == set(LABELS)
        assert sum(route.scores.values()) == pytest.approx(1)
        assert route.label == ("both" if route.abstained else max(route.scores, key=route.scores.__getitem__))


def test_another_encoder_is_refused(encoder: Encoder) -> None:
    other = dataclasses.replace(encoder.identity, weights_sha256="0" * 64)
    with pytest.raises(MismatchError, match=r"router\.json: must have the encoder in use"):
        Router.open(other)
    with pytest.raises(ValueError, match=r"must have the shape \(384,\), has \(1536,\)"):
        Router.open().route("x", np.zeros(1536, np.float32))


@pytest.mark.parametrize("text", ["", " \n", "a" * 1_000_000, "{" * 50_000, "i am " * 100_000, "😀" * 10_000])
def test_any_text_has_finite_flags(text: str) -> None:
    row = flags(text)
    assert row.shape == (len(NAMES),)
    assert np.isfinite(row).all()
    assert heuristic(text) in LABELS
    assert sum(Router.open().route(text, np.zeros(384, np.float32)).scores.values()) == pytest.approx(1)


def test_routing_imports_neither_torch_nor_sklearn() -> None:
    code = (
        "import sys; from device_sim.companion.router.router import Router; Router.open(); "
        "print([m for m in ('torch', 'sklearn', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_chat_with_another_encoder_gets_no_route_and_says_so_once(encoder: Encoder) -> None:
    warned: list[str] = []
    reporter = cast("Reporter", SimpleNamespace(warn=warned.append))
    route = routing(lambda: encoder, reporter)
    text = "Please answer in French from now on."
    found = route(text)
    assert found == Router.open().route(text, encoder.encode([text])[0])
    other = SimpleNamespace(identity=dataclasses.replace(encoder.identity, weights_sha256="0" * 64))
    route = routing(lambda: cast("Encoder", other), reporter)
    assert (route(text), route(text)) == (None, None)
    (warning,) = warned
    assert "weights_sha256" in warning
