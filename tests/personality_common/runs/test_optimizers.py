"""The own optimizer against PyTorch's."""

import pytest
import torch
from torch import Tensor, nn

from personality_common.runs.optimizers import FusedAdamW, adamw


def parameters() -> list[nn.Parameter]:
    shapes = ((7, 33), (33,), (), (5, 4))
    return [
        nn.Parameter(torch.randn(shape, generator=torch.manual_seed(i))) for i, shape in enumerate(shapes)
    ]


def groups(own: list[nn.Parameter]) -> list[dict[str, object]]:
    return [{"params": own[:2], "weight_decay": 0.3}, {"params": own[2:], "lr": 0.02, "eps": 1e-3}]


def gradients(step: int) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(100 + step)
    drawn: list[Tensor | None] = [torch.randn(p.shape, generator=generator) for p in parameters()]
    drawn[3] = None  # nothing read it
    return drawn


def states(optimizer: FusedAdamW | torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    found = optimizer.state_dict()["state"]
    assert list(found) == [0, 1, 2]
    return [found[number] for number in found]


def equal(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]]) -> bool:
    return all(
        list(a) == list(b)
        and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)
        for a, b in zip(one, other, strict=True)
    )


def test_its_steps_are_those_of_torch_bit_for_bit() -> None:
    ours, theirs = parameters(), parameters()
    own = FusedAdamW(groups(ours), lr=0.05, betas=(0.8, 0.95))
    wanted = torch.optim.AdamW(groups(theirs), lr=0.05, betas=(0.8, 0.95), fused=True)
    for step in range(4):
        for group_a, group_b in zip(own.param_groups, wanted.param_groups, strict=True):
            group_a["lr"] = group_b["lr"] = group_b["lr"] * 0.9
        for a, b, drawn in zip(ours, theirs, gradients(step), strict=True):
            a.grad, b.grad = drawn, None if drawn is None else drawn.clone()
        own.step()
        wanted.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], parameters()[0])
    assert equal(states(own), states(wanted))
    own.zero_grad()
    assert all(parameter.grad is None for parameter in ours)


def test_torch_goes_on_from_its_state_and_it_from_torchs() -> None:
    ours, theirs = parameters(), parameters()
    own, other = FusedAdamW(ours, lr=0.05), torch.optim.AdamW(theirs, lr=0.05, fused=True)
    for a, drawn in zip(ours, gradients(0), strict=True):
        a.grad = drawn
    own.step()
    with torch.no_grad():
        for a, b in zip(ours, theirs, strict=True):
            b.copy_(a)
    stored = own.state_dict()
    kept = [{name: tensor.clone() for name, tensor in state.items()} for state in stored["state"].values()]
    other.load_state_dict(
        {"state": dict(enumerate(kept)), "param_groups": other.state_dict()["param_groups"]}
    )
    again = FusedAdamW(ours, lr=9.0)
    again.load_state_dict(stored)
    assert again.param_groups[0]["lr"] == 0.05
    for a, b, drawn in zip(ours, theirs, gradients(1), strict=True):
        a.grad, b.grad = drawn, drawn
    again.step()
    other.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(("device", "kind"), [("cpu", FusedAdamW), ("mps", torch.optim.AdamW)])
def test_which_it_is_on_a_device(device: str, kind: type[object]) -> None:
    assert type(adamw(parameters(), device=device, lr=0.1)) is kind
