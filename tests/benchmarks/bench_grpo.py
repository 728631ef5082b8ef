"""Time of one GRPO step on the head: closed form against autograd through the whole model.

    python tests/benchmarks/bench_grpo.py [--texts 64] [--threads N] [--repeats 5]

Both compute the same thing: the gradient of GRPO's clipped loss at `projection.weight` and `output_bias`,
with a ratio per decision (for Bernoulli, whose decisions are 325 switches, also per set). The baseline is
what one writes first: the model's forward pass from embeddings, a dense log-probability, `backward()`. The
closed form starts at latents, which a frozen backbone gives once a night. Prints JSON: medians in
milliseconds, the largest difference between the gradients, relative to the largest one, and as
`ratios` how many times faster the closed form is, by the fastest step of each.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable

import torch
from suite import clock
from torch import Tensor

from grpo.advantages import group_advantages
from grpo.batch import make_batch
from grpo.head import Head
from grpo.losses import loss_and_gradient
from grpo.plackett_luce import PlackettLuce
from grpo.policies import Bernoulli
from grpo.surrogates import LossOptions, Ratio
from personality_common.contract import EMBEDDING_DIM, VOCAB_SIZE
from pretrain.personality.model import PersonalityModel

CLIP = 0.2
STEPS = 10


def dense_log_prob(logits: Tensor, actions: Tensor, policy: PlackettLuce | Bernoulli) -> Tensor:
    """(N, G, D), differentiable, as one writes it first."""
    z = logits[:, None].expand(-1, actions.shape[1], -1)
    if isinstance(policy, Bernoulli):
        on = torch.zeros(*z.shape[:2], VOCAB_SIZE + 1).scatter_(
            -1, actions.where(actions >= 0, VOCAB_SIZE), 1.0
        )
        return -torch.nn.functional.binary_cross_entropy_with_logits(z, on[..., :-1], reduction="none")
    draws, gone = [], torch.zeros(z.shape, dtype=torch.bool)
    for j in range(actions.shape[-1]):
        token = actions[..., j : j + 1]
        draws.append(z.masked_fill(gone, -torch.inf).log_softmax(-1).gather(-1, token))
        gone = gone.scatter(-1, token, True)
    return torch.cat(draws, -1)


def measure(
    first: Callable[[], object], second: Callable[[], object], repeats: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of each, in turns of a night's ten steps, so that both see the same machine."""
    now = clock(torch.get_num_threads())
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, into in zip((first, second), times, strict=True):
            call()  # brings back what the other has driven from the caches
            for _ in range(STEPS):
                start = now()
                call()
                into.append((now() - start) * 1e3)
    return times


def bench(
    policy: PlackettLuce | Bernoulli, ratio: Ratio, texts: int, group: int, repeats: int
) -> dict[str, object]:
    torch.manual_seed(0)
    model = PersonalityModel().eval()
    # Probabilities that sum to about 1, as softmax targets make them, rather than one half for each token.
    torch.nn.init.constant_(model.output_bias, -math.log(VOCAB_SIZE))
    embeddings = torch.nn.functional.normalize(torch.randn(texts, EMBEDDING_DIM), dim=-1)
    with torch.no_grad():
        latents = model.backbone(embeddings)
        head = Head(model.projection.weight.clone(), model.output_bias.clone())
        start = head.logits(latents)
    actions = policy.sample(start, group, torch.Generator().manual_seed(1))
    advantages = group_advantages(torch.randn(texts, group))
    # The head has moved since the candidates were drawn, by enough for some ratios to be clipped.
    drawn_by = start + 0.2 * torch.randn(start.shape)
    old = policy.at(drawn_by).log_prob(actions).float()
    options = LossOptions("grpo", ratio, CLIP, CLIP, None, 0.0, "k3", 0.0)
    batch = make_batch(
        policy, drawn_by, start, actions, None, advantages, torch.arange(texts), old.shape[-1], options
    )

    into = torch.empty_like(head.weight)  # as `DenseDescent` keeps it for all of a night's steps

    def closed_form() -> tuple[Tensor, Tensor]:
        result = loss_and_gradient(policy.at(head.logits(latents)), batch, options)
        gradient = result.gradient.float()
        return torch.mm(gradient.T, latents, out=into), gradient.sum(0)

    def autograd() -> tuple[Tensor, Tensor]:
        model.zero_grad()
        log_ratio = dense_log_prob(model(embeddings), actions, policy) - old
        ratios = (log_ratio.sum(-1, keepdim=True) if ratio == "set" else log_ratio).exp()
        a = advantages.values.float()[..., None]
        loss = -torch.minimum(ratios * a, ratios.clamp(1 - CLIP, 1 + CLIP) * a).mean(-1).mean()
        loss.backward()
        assert model.projection.weight.grad is not None
        assert model.output_bias.grad is not None
        return model.projection.weight.grad, model.output_bias.grad

    times = measure(autograd, closed_form, repeats)
    slow, fast = (statistics.median(side) for side in times)
    pairs = list(zip(autograd(), closed_form(), strict=True))
    difference = max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)
    return {
        "policy": type(policy).__name__,
        "ratio": ratio,
        "texts": texts,
        "candidates": group,
        "autograd_ms": round(slow, 3),
        "closed_form_ms": round(fast, 3),
        "speedup": round(slow / fast, 1),
        "speedup_of_fastest": round(min(times[0]) / min(times[1]), 2),
        "largest_difference": float(f"{difference:.1e}"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policies: tuple[tuple[PlackettLuce | Bernoulli, Ratio], ...] = (
        (PlackettLuce(), "decision"),
        (Bernoulli(), "decision"),
        (Bernoulli(), "set"),
    )
    steps = [
        bench(policy, ratio, arguments.texts, group, arguments.repeats)
        for policy, ratio in policies
        # The largest first: until the heap has grown, autograd's steps take a third longer, or do not.
        for group in (64, 16, 2)
    ]
    ratios = {
        f"{step['policy']} per {step['ratio']}, {step['candidates']} candidates": step["speedup_of_fastest"]
        for step in steps
    }
    print(json.dumps({"threads": arguments.threads, "steps": steps, "ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()
