"""Which texts are distinct, and whose each is, where no process holds the keys of all.

Of N processes, process r answers for the keys from r / N to (r + 1) / N of all that there can be. The others
tell it which texts with such keys they have read, it says whose each is, and it alone keeps their keys. All
goes in rounds, each a part of every range, so that what is on its way and sorted at a time takes the same
memory for any number of texts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from personality_common.runs.processes import Processes
from pretrain.data.conversations import LabelReader
from pretrain.data.keys import KEY_BYTES, KEY_DTYPE
from pretrain.data.spread import by_process

ROUND_TEXTS: Final = 1 << 18
"""That a process tells of, and is told of, in a round, about."""

_TEXT: Final = np.dtype([("key", KEY_DTYPE), ("place", "<i8"), ("held_out", "?")])
_LABEL: Final = np.dtype([("key", KEY_DTYPE), ("token", "<i8"), ("place", "<i8")])
_END: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class Agreement:
    """What the processes have agreed upon.

    Attributes:
        own: numbers of the texts that are this process's, of those it read, in the order of their keys.
        keys: (n,) of all texts that it answers for, sorted.
        held_out: (n,) bool, of those.
        found: how many distinct texts all processes have read.
        last: place of the last record that counts, where texts beyond `max_samples` are left out; else the
            largest int64.
    """

    own: NDArray[np.int64]
    keys: NDArray[np.bytes_]
    held_out: NDArray[np.bool_]
    found: int
    last: int


def agree(
    keys: NDArray[np.bytes_],
    places: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    max_samples: int | None,
    processes: Processes,
) -> Agreement:
    """A text is its that has it in the earliest record; of all texts the first `max_samples` are kept.

    Args:
        keys: (n,) of the distinct texts that this process has read, in the order of reading.
        places: (n,) of their records, never falling; no record is read by two processes.
        held_out: (n,) whether a text is for validation; the text alone decides.
    """
    order = np.argsort(keys)
    most = max(int(one[0]) for one in processes.gather(np.array([len(keys)])))
    rounds = max(1, -(-most // ROUND_TEXTS))
    ranges = processes.size * rounds
    bounds = [*np.searchsorted(keys, _edges(ranges), sorter=order).tolist(), len(keys)]
    first = np.zeros(len(keys), np.bool_)
    answered: list[NDArray[np.void]] = []
    for turn in range(rounds):
        told = [order[bounds[i] : bounds[i + 1]] for i in range(turn, ranges, rounds)]
        heard = processes.exchange([_texts(keys[t], places[t], held_out[t]) for t in told])
        texts, earliest = _decide(heard)
        answered.append(texts)
        for part, mine in zip(told, processes.exchange(earliest), strict=True):
            first[part] = mine
    found = int(processes.sum(torch.tensor(sum(map(len, answered)))))

    last = _END
    if max_samples is not None and found >= max_samples:
        read_first = np.flatnonzero(first)
        last = _last_place(places[read_first], max_samples, processes)
        upto = int(np.searchsorted(places[read_first], last, side="right"))
        over = int(processes.sum(torch.tensor(upto))) - max_samples
        # What is over is of one record, that at `last`: the end of it.
        over = over if upto and places[read_first[upto - 1]] == last else 0
        dropped = np.concatenate(processes.gather(keys[read_first[upto - over : upto]]))
        first[read_first[upto - over :]] = False
        answered = [texts[(texts["place"] <= last) & ~np.isin(texts["key"], dropped)] for texts in answered]
    return Agreement(
        own=order[first[order]],
        keys=np.concatenate([texts["key"] for texts in answered]),
        held_out=np.concatenate([texts["held_out"] for texts in answered]),
        found=found,
        last=last,
    )


def _edges(ranges: int) -> NDArray[np.bytes_]:
    """The least key of each of so many equal ranges."""
    return np.array([((i << 8 * KEY_BYTES) // ranges).to_bytes(KEY_BYTES, "big") for i in range(ranges)])


def _texts(
    keys: NDArray[np.bytes_], places: NDArray[np.int64], held_out: NDArray[np.bool_]
) -> NDArray[np.void]:
    texts = np.empty(len(keys), _TEXT)
    texts["key"], texts["place"], texts["held_out"] = keys, places, held_out
    return texts


def _decide(heard: list[NDArray[np.void]]) -> tuple[NDArray[np.void], list[NDArray[np.bool_]]]:
    """The distinct texts of what each process told, by key; and of each told whether it is the earliest."""
    texts = np.concatenate(heard)
    by_place = np.argsort(texts["place"], kind="stable")
    _, at = np.unique(texts["key"][by_place], return_index=True)
    earliest = np.zeros(len(texts), np.bool_)
    earliest[by_place[at]] = True
    return texts[by_place[at]], np.split(earliest, np.cumsum([len(part) for part in heard[:-1]]))


def _last_place(places: NDArray[np.int64], count: int, processes: Processes) -> int:
    """The least place up to which all processes together have so many or more; (n,) places, never falling."""
    low, high = 0, _END
    while low < high:
        middle = (low + high) // 2
        upto = torch.tensor(int(np.searchsorted(places, middle, side="right")))
        low, high = (low, middle) if int(processes.sum(upto)) >= count else (middle + 1, high)
    return low


def agree_on_labels(
    labels: LabelReader, keys: NDArray[np.bytes_], start: int, last: int, processes: Processes
) -> NDArray[np.int64]:
    """All processes' labels of all texts: each label goes to the process that answers for its text.

    Args:
        labels: what this process has read.
        keys: (n,) that it answers for, sorted.
        start: the number of the first of them among all texts.
        last: place of the last record that counts.

    Returns:
        (M, 2): numbers of texts among all and tokens; distinct and sorted.
    """
    own = np.empty(len(labels.tokens), _LABEL)
    own["key"] = np.frombuffer(labels.keys, KEY_DTYPE)
    own["token"], own["place"] = labels.tokens, labels.places
    _, parts = by_process(
        np.searchsorted(_edges(processes.size), own["key"], side="right") - 1, processes.size
    )
    told = np.concatenate(processes.exchange([own[part] for part in parts]))
    told = told[told["place"] <= last]
    texts = np.searchsorted(keys, told["key"])
    kept = np.searchsorted(keys, told["key"], side="right") > texts
    pairs = np.stack([start + texts[kept], told["token"][kept]], axis=1)
    everyone = processes.gather(np.unique(pairs, axis=0).reshape(-1))
    return np.concatenate(everyone).reshape(-1, 2)


def fingerprint_of(keys: NDArray[np.bytes_], processes: Processes) -> str:
    """SHA-256, in hex, over the sorted keys of all texts, which pass through the leader a part at a time."""
    digest = hashlib.sha256()
    for rank, length in enumerate(processes.gather(np.array([len(keys)]))):
        for at in range(0, int(length[0]), ROUND_TEXTS):
            part = keys[at : at + ROUND_TEXTS] if rank == processes.rank else keys[:0]
            for heard in processes.exchange([part] + [keys[:0]] * (processes.size - 1)):
                digest.update(heard.tobytes())
    return processes.gather_text(digest.hexdigest())[0]
