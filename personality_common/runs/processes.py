"""One job in many processes: who this one is, and what they tell each other.

`torchrun` starts the processes and restarts them; torch.distributed carries what they say. What they
say are bytes and sums: nothing that could run code.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # not in its __all__
from torch.distributed.rendezvous import rendezvous

from personality_common.errors import ToolkitError

T = TypeVar("T")
D = TypeVar("D", bound=np.generic)

PATIENCE: Final = timedelta(days=30)
"""How long a process waits for the others: one may embed for days. A dead one is noticed at once, since
its connections close, and torchrun ends the rest."""

LOOPBACK: Final = "127.0.0.1"
"""What torchrun is given as --local-addr for a job on one machine that no other may reach."""
POLL_S: Final = 0.05


@dataclass(frozen=True)
class Processes:
    """This process among those of its job; alone by default.

    All methods are for all processes together: each must call them, in the same order.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0

    def gather(self, values: NDArray[D]) -> list[NDArray[D]]:
        """Every process's array, (n_rank,) of one dtype, by rank."""
        if self.size == 1:
            return [values]
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = values.nbytes
        dist.all_reduce(lengths)
        # Collectives want equal shapes.
        padded = torch.zeros(int(lengths.max()), dtype=torch.uint8)
        padded[: values.nbytes] = torch.from_numpy(values.view(np.uint8).copy())
        buffers = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(buffers, padded)
        pairs = zip(buffers, lengths.tolist(), strict=True)
        return [buffer[:length].numpy().view(values.dtype) for buffer, length in pairs]

    def exchange(self, parts: Sequence[NDArray[D]]) -> list[NDArray[D]]:
        """Give each process its part, (n,) by rank, all of one dtype; what each had for this one, by rank."""
        if self.size == 1:
            return list(parts)
        sent = torch.tensor([part.nbytes for part in parts])
        coming = torch.empty_like(sent)
        dist.all_to_all_single(coming, sent)
        received = torch.empty(int(coming.sum()), dtype=torch.uint8)
        together = torch.from_numpy(np.concatenate([part.view(np.uint8) for part in parts]))
        dist.all_to_all_single(received, together, coming.tolist(), sent.tolist())
        return [part.numpy().view(parts[0].dtype) for part in torch.split(received, coming.tolist())]

    def gather_text(self, text: str) -> list[str]:
        """Every process's text, by rank."""
        return [a.tobytes().decode() for a in self.gather(np.frombuffer(text.encode(), np.uint8))]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over processes of a CPU tensor of one shape."""
        total = values.clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def follow(self, tensors: Sequence[Tensor]) -> None:
        """Give each of some tensors the leader's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Make each of some tensors, of one dtype and device, its mean over processes, in place.

        All processes have the same bits then: each element's sum is made once, and sent around.
        """
        if self.size == 1:
            return
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(together)
        together /= self.size
        parts = torch.split(together, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def share(self, step: Callable[[], T]) -> T:
        """Do a step that may fail; where it fails on one process, it fails on all.

        The leader raises, so that the failure is printed once; the others leave with exit code 1.

        Raises:
            ToolkitError, OSError: as `step` on this process; or what another process failed with.
        """
        failure: ToolkitError | OSError | None = None
        try:
            result = step()
        except (ToolkitError, OSError) as error:
            failure = error
        told = self.gather_text("" if failure is None else str(failure) or type(failure).__name__)
        if any(told) and not self.leads:
            raise SystemExit(1)
        if failure is not None:
            raise failure
        for rank, message in enumerate(told):
            if message:
                raise ToolkitError(f"process {rank} of {self.size}: {message}")
        return result

    def require_same(self, text: str, what: str) -> None:
        """Raise ToolkitError unless every process has the same text."""
        theirs = self.gather_text(text)
        for rank, other in enumerate(theirs):
            if other != theirs[0]:
                raise ToolkitError(
                    f"{what} must be the same in all {self.size} processes, process {rank} has another than"
                    " process 0; install the same versions, weights and data on every machine"
                )


ALONE: Final = Processes()


def restarts() -> int:
    """How often torchrun has started this process again; of several machines, each has a count of its own."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


@contextlib.contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the job that torchrun started; alone without torchrun.

    Each process of a machine takes one of its GPUs, where there are any.

    Raises:
        ToolkitError: the connection to the others broke.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        store = _store(rank, size)
        namespace = PrefixStore(_meet(store, rank, size), store)
        dist.init_process_group(backend, store=namespace, rank=rank, world_size=size, timeout=PATIENCE)
        yield Processes(rank, size)
    except RuntimeError as error:
        # Gloo's own errors have no type of their own.
        if isinstance(error, dist.DistError) or "gloo" in str(error) or "onnection" in str(error):
            raise ToolkitError(
                f"process {rank} of {size} lost the others: one of them ended early, or the network broke;"
                " what was finished is kept: --resume goes on"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _store(rank: int, size: int) -> Store:
    """Where the processes meet; torch's own, but for a job that keeps to this machine.

    torch's store listens on all interfaces, whatever address it is given; on a socket that is bound
    already it does not. Gloo and nccl listen on the interface that they are told.
    """
    address, own = os.environ["MASTER_ADDR"], os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not own or address != LOOPBACK:
        store: Store = next(rendezvous("env://"))[0]
        return store
    interface = "lo0" if sys.platform == "darwin" else "lo"
    for library in ("GLOO", "NCCL"):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface)
    port, listening = int(os.environ["MASTER_PORT"]), None
    if rank == 0:
        listening = socket.create_server((address, port)).detach()
    return TCPStore(address, port, size, rank == 0, PATIENCE, master_listen_fd=listening)


def _meet(store: Store, rank: int, size: int) -> str:
    """A name that the living processes of this attempt know, and none of an earlier one.

    torchrun keeps one store through all restarts, and the addresses in it are of dead processes until the new
    ones have written theirs; who reads too early connects to nobody (torch 2.13; pytorch/pytorch#135712). So
    each process asks with a token of its own, and the leader answers whoever asks until all have heard.
    """
    token = uuid.uuid4().hex
    if rank > 0:
        store.set(f"asks/{rank}", token)
        name: str = store.get(f"answer/{token}").decode()
        store.add(f"heard/{name}", 1)
        return name
    while store.add(f"heard/{token}", 0) < size - 1:
        for other in (f"asks/{other}" for other in range(1, size)):
            if store.check([other]):
                store.set(f"answer/{store.get(other).decode()}", token)
        time.sleep(POLL_S)
    return token
