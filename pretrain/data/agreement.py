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
from pretrain.data.spool import TextSpool
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
        own: (m,) bool, of the entries of this process's spool, which are in the order of their keys: whether
            the text is this process's.
        keys: (n,) of all texts that it answers for, sorted.
        held_out: (n,) bool, of those.
        found: how many distinct texts all processes have read.
        last: place of the last record that counts, where texts beyond `max_samples` are left out; else the
            largest int64.
    """

    own: NDArray[np.bool_]
    keys: NDArray[np.bytes_]
    held_out: NDArray[np.bool_]
    found: int
    last: int


def agree(spool: TextSpool, max_samples: int | None, processes: Processes) -> Agreement:
    """A text is its that has it in the earliest record; of all texts the first `max_samples` are kept.

    Args:
        spool: the texts that this process has read, in the order of reading, so that places never fall; no
            record is read by two processes. It is sorted here.

    Raises:
        ToolkitError, OSError: no space, here or in another process.
    """
    most = max(int(one[0]) for one in processes.gather(np.array([len(spool)])))
    rounds = max(1, -(-most // ROUND_TEXTS))
    ranges = processes.size * rounds
    bounds = processes.share(lambda: spool.sort(_edges(ranges)))
    first = np.zeros(bounds[-1], np.bool_)
    # They grow in place, where a list of arrays would be there beside what is made of it.
    keys, held_out, places = bytearray(), bytearray(), bytearray()
    for turn in range(rounds):
        told = [(bounds[i], bounds[i + 1]) for i in range(turn, ranges, rounds)]
        heard = processes.exchange([_texts(spool.entries(*part)) for part in told])
        texts, earliest = _decide(heard)
        keys += texts["key"].tobytes()
        held_out += texts["held_out"].tobytes()
        if max_samples is not None:
            places += texts["place"].tobytes()
        for (start, end), mine in zip(told, processes.exchange(earliest), strict=True):
            first[start:end] = mine
    answered = Agreement(
        own=first,
        keys=np.frombuffer(keys, KEY_DTYPE),
        held_out=np.frombuffer(held_out, np.bool_),
        found=int(processes.sum(torch.tensor(len(held_out)))),
        last=_END,
    )
    if max_samples is None or answered.found < max_samples:
        return answered
    return _cut(answered, np.frombuffer(places, "<i8"), spool, max_samples, processes)


def _cut(
    answered: Agreement,
    places: NDArray[np.int64],
    spool: TextSpool,
    max_samples: int,
    processes: Processes,
) -> Agreement:
    """The first `max_samples` texts alone; (n,) places of the records of those that are answered for."""
    own = answered.own.copy()
    as_read = np.argsort(spool.field("start", own))
    own_places = spool.field("place", own)[as_read]
    last = _last_place(own_places, max_samples, processes)
    upto = int(np.searchsorted(own_places, last, side="right"))
    over = int(processes.sum(torch.tensor(upto))) - max_samples
    # What is over is of one record, that at `last`: the end of it.
    over = over if upto and own_places[upto - 1] == last else 0
    surplus = spool.field("key", own)[as_read[upto - over : upto]]
    dropped = np.concatenate(processes.gather(surplus))
    own[np.flatnonzero(own)[as_read[upto - over :]]] = False
    kept = (places <= last) & ~np.isin(answered.keys, dropped)
    return Agreement(own, answered.keys[kept], answered.held_out[kept], answered.found, last)


def _edges(ranges: int) -> NDArray[np.bytes_]:
    """The least key of each of so many equal ranges."""
    return np.array([((i << 8 * KEY_BYTES) // ranges).to_bytes(KEY_BYTES, "big") for i in range(ranges)])


def _texts(entries: NDArray[np.void]) -> NDArray[np.void]:
    texts = np.empty(len(entries), _TEXT)
    for name in _TEXT.names or ():
        texts[name] = entries[name]
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
