"""Rows hold every target once, behind the tokens that came before it and no others."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pretrain.lm.packing import (
    DOCUMENTS,
    INPUTS,
    NO_TARGET,
    OPEN_ROWS,
    Encoded,
    Fill,
    Order,
    open_rows,
    pack,
    write_rows,
)


def documents(count: int, longest: int, seed: int = 0) -> list[Encoded]:
    """Ids from 1 on; about half of them bear loss, but never the first alone."""
    rng = random.Random(seed)
    made: list[Encoded] = []
    for _ in range(count):
        length = rng.randint(2, longest)
        loss = [rng.random() < 0.5 for _ in range(length)]
        loss[rng.randrange(1, length)] = True
        made.append(([rng.randint(1, 999) for _ in range(length)], loss))
    return made


def pairs(rows: list[np.ndarray]) -> Counter[tuple[tuple[int, ...], int]]:
    """Of each target in rows: the inputs of its document up to there, and the target."""
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for row in rows:
        for number in np.unique(row[DOCUMENTS]):
            inputs, targets = row[:DOCUMENTS, row[DOCUMENTS] == number].tolist()
            for place, target in enumerate(targets):
                if target != NO_TARGET:
                    found[tuple(inputs[: place + 1]), target] += 1
    return found


def test_rows_of_a_hand_made_example() -> None:
    """Four places, of what counts 1 a thousand; documents of 4, 1 and 2 tokens after their first."""
    encoded: list[Encoded] = [
        ([5, 6, 7, 8, 9], [0, 0, 1, 1, 0.5]),
        ([3, 4], [0, 3]),
        ([11, 12, 13], [False, True, False]),
    ]
    fill = Fill(4)
    rows = [row.tolist() for row in pack(encoded, 4, fill)]
    assert rows == [
        [[5, 6, 7, 8], [0, 7, 8, 9], [0, 0, 0, 0], [0, 1_000, 1_000, 500]],
        [[3, 11, 12, 0], [4, 12, 0, 0], [0, 1, 1, 2], [3_000, 1_000, 0, 0]],
    ]
    assert (fill.documents, fill.cut, fill.rows, fill.places, fill.targets) == (3, 0, 2, 7, 5)
    assert fill.rate == 7 / 8


def test_every_target_stands_behind_its_own_document_once() -> None:
    """Targets of long documents, too: each piece but the first begins with the input that came before."""
    length = 16
    made = documents(800, 50)
    wanted: Counter[tuple[tuple[int, ...], int]] = Counter()
    for ids, loss in made:
        for place in range(1, len(ids)):
            if loss[place]:
                start = (place - 1) // length * length
                wanted[tuple(ids[start:place]), ids[place]] += 1
    fill = Fill(length)
    rows = list(pack(made, length, fill))
    assert pairs(rows) == wanted
    assert fill.rows == len(rows)
    assert fill.targets == wanted.total()
    assert all(row.shape == (4, length) for row in rows)


def test_rows_are_nearly_full_and_few_wait() -> None:
    made = documents(6_000, 90)
    fill, given = Fill(256), 0

    def counted() -> Iterator[Encoded]:
        nonlocal given
        for one in made:
            given += len(one[0]) - 1
            yield one

    done = 0
    for row in pack(counted(), 256, fill):
        done += int((row[INPUTS] != 0).sum())
        assert given - done <= (OPEN_ROWS + 1) * 256
    assert fill.rate > 0.98


def test_an_order_takes_every_row_once_a_pass_and_begins_anywhere() -> None:
    whole = Order(10, seed=3)(0, 30)
    for turn in range(3):
        assert sorted(whole[turn * 10 : turn * 10 + 10]) == list(range(10))
    assert whole[:10].tolist() != whole[10:20].tolist()
    assert Order(10, seed=3)(17, 6).tolist() == whole[17:23].tolist()
    assert Order(10, seed=4)(0, 10).tolist() != whole[:10].tolist()


def test_rows_on_the_disk_are_the_rows(tmp_path: Path) -> None:
    made = documents(50, 20)
    rows = list(pack(made, 16, Fill(16)))
    write_rows(rows, tmp_path / "rows")
    assert np.array_equal(open_rows(tmp_path / "rows", 16), np.stack(rows))
    write_rows([], tmp_path / "none")
    assert open_rows(tmp_path / "none", 16).shape == (0, 4, 16)


@pytest.mark.parametrize("loss", [[True, False], [False, False]])
def test_a_document_without_a_target_takes_no_place(loss: list[bool]) -> None:
    fill = Fill(4)
    assert list(pack([([1, 2], loss)], 4, fill)) == []
    assert fill.rate == 0
