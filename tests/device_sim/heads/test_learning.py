"""What a learner keeps survives the file bit for bit; a file that is not whole is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from device_sim.heads.heads import LEARNING_FILE
from device_sim.heads.learning import LearnedHead, read_learning, write_learning
from grpo.evidence import Evidence
from grpo.gate import Wealth
from grpo.head import Head
from grpo.learner import Learned, Prior
from grpo.learners import Kept
from grpo.reference import KINDS
from personality_common.errors import DataError
from personality_common.files.tensors import load_tensors, save_tensors

VOCABULARY, TOPICS, LIKENESSES = 6, 3, 5
Tensors = dict[str, torch.Tensor]


def evidence(seed: int, contrasts: int) -> Evidence:
    draw = torch.Generator().manual_seed(seed)
    size = VOCABULARY + 2
    return Evidence(
        torch.randn(size, size, generator=draw, dtype=torch.float64) * 1e9, contrasts,
        torch.randn(VOCABULARY, TOPICS, generator=draw, dtype=torch.float64),
        torch.randn(LIKENESSES, size + LIKENESSES, generator=draw, dtype=torch.float64),
    )  # fmt: skip


@pytest.fixture
def kept(make_head: Callable[..., Head]) -> Kept:
    """Numbers that no short decimal has."""
    wealth = Wealth((1 / 3, -2 / 7, 1e-17), 3.0000000000000004)
    return Kept(
        make_head(1),
        make_head(2),
        Learned(evidence(3, 40), evidence(4, 7), -1234.5 / 7, wealth, Prior(3.1, True, 40)),
    )


@pytest.fixture
def file(kept: Kept, tmp_path: Path) -> Path:
    write_learning(tmp_path / LEARNING_FILE, kept)
    return tmp_path / LEARNING_FILE


def tensors_of(kept: Kept) -> list[bytes]:
    parts = (
        *kept.head,
        *kept.state,
        *(t for e in kept.learned[:2] for t in (e.products, e.moments, e.of_texts)),
    )
    return [t.numpy().tobytes() for t in parts]


def numbers_of(kept: Kept) -> tuple[Any, ...]:
    learned = kept.learned
    return learned.before.contrasts, learned.since.contrasts, *learned[2:]


def test_what_is_read_is_what_was_written(kept: Kept, file: Path) -> None:
    found = read_learning(file, kept.head)
    assert tensors_of(found) == tensors_of(kept)
    assert numbers_of(found) == numbers_of(kept)
    unknown = kept._replace(learned=kept.learned._replace(log_likelihood=None))
    write_learning(file, unknown)
    assert read_learning(file, kept.head).learned.log_likelihood is None


def test_a_file_of_schema_1_knows_nothing_of_what_texts_are_liked_for(kept: Kept, file: Path) -> None:
    tensors, metadata = load_tensors(file)
    for name in ("before", "since"):
        del tensors[f"{name}.of_texts"]
    earlier = {key: value for key, value in json.loads(metadata["learned"]).items() if key != "schema"}
    save_tensors(file, tensors, {"learned": json.dumps(earlier)})
    found = read_learning(file, kept.head)
    assert numbers_of(found) == numbers_of(kept)
    for ours, theirs in zip(found.learned[:2], kept.learned[:2], strict=True):
        assert torch.equal(ours.products, theirs.products)
        assert torch.equal(ours.moments, theirs.moments)
        assert ours.of_texts.shape == (KINDS, VOCABULARY + 2 + KINDS)
        assert not bool(ours.of_texts.any())


def test_a_file_of_a_later_schema_says_so(kept: Kept, file: Path) -> None:
    tensors, metadata = load_tensors(file)
    numbers(metadata, schema=3)
    save_tensors(file, tensors, metadata)
    with pytest.raises(DataError, match=r"schema must be 1 or 2, is 3; a later version wrote it$"):
        read_learning(file, kept.head)


def test_a_head_carries_what_was_kept(kept: Kept) -> None:
    learned = LearnedHead.of(kept)
    assert learned == kept.head
    assert learned.kept is kept


def numbers(metadata: dict[str, str], **changes: Any) -> None:
    metadata["learned"] = json.dumps({**json.loads(metadata["learned"]), **changes})


def shaped(name: str, *shape: int) -> Callable[[Tensors, dict[str, str]], None]:
    return lambda tensors, _: tensors.update({name: torch.zeros(shape, dtype=tensors[name].dtype)})


def poisoned(name: str, value: float) -> Callable[[Tensors, dict[str, str]], None]:
    return lambda tensors, _: tensors.update({name: torch.full_like(tensors[name], value)})


DAMAGES: dict[str, Callable[[Tensors, dict[str, str]], object]] = {
    "no numbers": lambda _, metadata: metadata.pop("learned"),
    "no state": lambda tensors, _: tensors.pop("state.bias"),
    "no evidence": lambda tensors, _: tensors.pop("since.products"),
    "not JSON": lambda _, metadata: metadata.update(learned="{"),
    "a list": lambda _, metadata: metadata.update(learned="[]"),
    "another state": shaped("state.weight", VOCABULARY, 9),
    "evidence of more tokens": shaped("before.products", VOCABULARY + 3, VOCABULARY + 3),
    "moments of fewer": shaped("since.moments", VOCABULARY - 1, TOPICS),
    "flat moments": shaped("since.moments", VOCABULARY),
    "float32 evidence": lambda tensors, _: tensors.update(
        {"before.products": tensors["before.products"].float()}
    ),
    "NaN in the state": poisoned("state.weight", torch.nan),
    "NaN in the evidence": poisoned("before.products", torch.nan),
    "no sums over texts": lambda tensors, _: tensors.pop("before.of_texts"),
    "sums over texts of more tokens": shaped("since.of_texts", LIKENESSES, VOCABULARY + 3 + LIKENESSES),
    "flat sums over texts": shaped("since.of_texts", LIKENESSES),
    "NaN in sums over texts": poisoned("since.of_texts", torch.nan),
    "infinite moments": poisoned("since.moments", torch.inf),
    "NaN for wealth": lambda _, metadata: numbers(metadata, wealth=[0.0, torch.nan, 0.0]),
    "two stakes": lambda _, metadata: numbers(metadata, wealth=[0.0, 0.0]),
    "an infinite peak": lambda _, metadata: numbers(metadata, peak=torch.inf),
    "a likelihood that is none": lambda _, metadata: numbers(metadata, log_likelihood="often"),
    "fewer than no contrasts": lambda _, metadata: numbers(metadata, contrasts=[40, -1]),
    "no prior": lambda _, metadata: numbers(metadata, prior=None),
    "half a prior": lambda _, metadata: numbers(metadata, prior=[1.0, True]),
    "a NaN prior": lambda _, metadata: numbers(metadata, prior=[torch.nan, True, 3]),
    "a prior of less than nothing": lambda _, metadata: numbers(metadata, prior=[-1.0, True, 3]),
    "three counts": lambda _, metadata: numbers(metadata, contrasts=[40, 7, 7]),
    "too many contrasts": lambda _, metadata: numbers(metadata, contrasts=[torch.inf, 7]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_refused_in_one_line(
    kept: Kept, file: Path, damage: Callable[[Tensors, dict[str, str]], object]
) -> None:
    tensors, metadata = load_tensors(file)
    damage(tensors, metadata)
    save_tensors(file, tensors, metadata)
    with pytest.raises(DataError) as caught:
        read_learning(file, kept.head)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_another_head_or_cut_short_is_refused(
    kept: Kept, file: Path, make_head: Callable[..., Head]
) -> None:
    with pytest.raises(DataError):
        read_learning(file, make_head(1, rows=7))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError):
        read_learning(file, kept.head)
