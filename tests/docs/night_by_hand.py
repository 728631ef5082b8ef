"""The night of docs/on-the-device.md, step by step in loops: what the Swift does, apart from grpo's tensors.

Names and step numbers are the page's. Nothing here comes from `grpo`.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

K, TOP = 8, 8
DEVIATION_FLOOR, SPREAD_TOLERANCE = 1e-3, 1e-6
CLIP_LOW, CLIP_HIGH, DELTA, LOG_RATIO_LIMIT = 0.5, 2.0, 4.0, 20.0
KL_WEIGHT, ENTROPY_WEIGHT = 0.1, 0.05
LEARNING_RATE, STEPS = 30.0, 12
KL_STOP, KL_BUDGET, OVERLAP_BUDGET = 0.3, 0.5, 0.7
HALVINGS = 10


@dataclass
class Candidate:
    """Tokens in the order drawn; no reward means no feedback, no logp the head at the night's start."""

    tokens: list[int]
    reward: float | None
    logp: float | None = None


@dataclass
class Night:
    """What each step found."""

    advantages: list[list[float]] = field(default_factory=list)
    gradients: list[Matrix] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    whole: tuple[float, float] = (0.0, 1.0)
    share: float = 1.0
    coefficients: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    weight: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    bias: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


def draw(logits: Matrix, uniform: Matrix, k: int = K) -> list[int]:
    """By day: the k largest of z + Gumbel noise, the largest first."""
    noisy = [z - math.log(-math.log1p(-u)) for z, u in zip(logits, uniform, strict=True)]
    return sorted(range(len(noisy)), key=lambda v: -noisy[v])[:k]


def log_softmax(z: Matrix) -> Matrix:
    shifted = z - z.max()
    return np.asarray(shifted - math.log(np.exp(shifted).sum()))


def log_probs(z: Matrix, tokens: list[int]) -> list[float]:
    """Of each draw: its logit against those that are not yet drawn."""
    left = z - z.max()
    found = []
    for token in tokens:
        found.append(left[token] - math.log(np.exp(left).sum()))
        left = left.copy()
        left[token] = -math.inf
    return found


def kl(p: Matrix, q: Matrix) -> float:
    """Of the first draw, at logits p against logits q; the mean over the texts."""
    rows = [
        float((np.exp(log_softmax(a)) * (log_softmax(a) - log_softmax(b))).sum())
        for a, b in zip(p, q, strict=True)
    ]
    return sum(rows) / len(rows)


def overlap(p: Matrix, q: Matrix) -> float:
    rows = [
        len(set(np.argsort(-a, kind="stable")[:TOP]) & set(np.argsort(-b, kind="stable")[:TOP])) / TOP
        for a, b in zip(p, q, strict=True)
    ]
    return sum(rows) / len(rows)


def within(p: Matrix, shipped: Matrix) -> bool:
    return kl(p, shipped) <= KL_BUDGET and overlap(p, shipped) >= OVERLAP_BUDGET


def advantages(texts: list[list[Candidate]]) -> list[list[float | None]]:
    """Step 2; None where a candidate teaches nothing."""
    result: list[list[float | None]] = [[None] * len(candidates) for candidates in texts]
    singles: list[tuple[int, int, float]] = []
    for n, candidates in enumerate(texts):
        heard = [(g, c.reward) for g, c in enumerate(candidates) if c.reward is not None]
        if len(heard) == 1:
            singles.append((n, heard[0][0], heard[0][1]))
        if len(heard) < 2:
            continue
        rewards = [r for _, r in heard]
        spread = max(rewards) - min(rewards)
        if spread <= SPREAD_TOLERANCE * max(1.0, *(abs(r) for r in rewards)):
            continue
        mean = sum(rewards) / len(rewards)
        deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
        for g, reward in heard:
            result[n][g] = (reward - mean) / max(deviation, DEVIATION_FLOOR)
    if len(singles) > 1:
        rewards = [r for *_, r in singles]
        mean = sum(rewards) / len(rewards)
        deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
        for i, (n, g, reward) in enumerate(singles[1:], start=1):
            before = sum(rewards[:i]) / i
            result[n][g] = (reward - before) / max(deviation, DEVIATION_FLOOR)
    return result


def slope(ratio: float, advantage: float) -> float:
    """Step 5: derivative of the clipped surrogate at the log-probability."""
    if advantage > 0:
        return -ratio * advantage if ratio <= CLIP_HIGH else 0.0
    return -ratio * advantage if CLIP_LOW <= ratio <= DELTA else 0.0


def held(difference: float) -> float:
    return max(-LOG_RATIO_LIMIT, min(LOG_RATIO_LIMIT, difference))


def gradient(
    z: Matrix,
    start: Matrix,
    shipped: Matrix,
    texts: list[list[Candidate]],
    scores: list[list[float | None]],
) -> Matrix:
    """Step 5: the gradient of the night's loss at the logits."""
    heard = [sum(c.reward is not None for c in candidates) for candidates in texts]
    speaking = sum(count > 0 for count in heard)
    result = np.zeros_like(z)
    for n, candidates in enumerate(texts):
        for candidate, advantage in zip(candidates, scores[n], strict=True):
            if advantage is None:
                continue
            new = log_probs(z[n], candidate.tokens)
            old = log_probs(start[n], candidate.tokens)
            if candidate.logp is not None:
                shift = (candidate.logp - sum(old)) / len(old)
                old = [o + shift for o in old]
            left = np.exp(z[n] - z[n].max())
            unit = 1 / (speaking * heard[n] * len(candidate.tokens))
            for token, l, l_old in zip(candidate.tokens, new, old, strict=True):  # noqa: E741
                weight = unit * slope(math.exp(held(l - l_old)), advantage)
                result[n] -= weight * left / left.sum()
                result[n][token] += weight
                left[token] = 0
        if heard[n]:
            log_p, log_q = log_softmax(z[n]), log_softmax(shipped[n])
            p = np.exp(log_p)
            entropy, apart = -float((p * log_p).sum()), float((p * (log_p - log_q)).sum())
            pull = KL_WEIGHT * (log_p - log_q - apart) + ENTROPY_WEIGHT * (log_p + entropy)
            result[n] += p * pull / speaking
    return result


def night(
    latents: NDArray[np.float32],
    texts: list[list[Candidate]],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    shipped_weight: NDArray[np.float32],
    shipped_bias: NDArray[np.float32],
) -> Night:
    """Steps 1 to 7."""
    result = Night()
    h = latents.astype(np.float64)
    start = h @ weight.T + bias  # step 1
    shipped = h @ shipped_weight.T + shipped_bias
    scores = advantages(texts)  # step 2
    result.advantages = [[0.0 if a is None else a for a in row] for row in scores]
    result.weight, result.bias = weight, bias
    coefficients = np.zeros_like(start)
    if all(a is None for row in scores for a in row):
        result.coefficients = coefficients
        return result
    gram = h @ h.T + 1
    z = start
    for _ in range(STEPS):
        found = gradient(z, start, shipped, texts, scores)
        result.gradients.append(found)
        coefficients = coefficients - LEARNING_RATE * found
        z = start + gram @ coefficients
        result.kl.append(kl(z, start))
        if result.kl[-1] > KL_STOP:
            break
    result.coefficients = coefficients
    result.whole = kl(z, shipped), overlap(z, shipped)
    share = _share(start, z, shipped)  # step 6
    less = 0.5**HALVINGS
    while share > 0:  # step 7
        made = (weight + share * coefficients.T @ h).astype(np.float32)
        made_bias = (bias + share * coefficients.sum(0)).astype(np.float32)
        if within(h @ made.T + made_bias, shipped):
            result.weight, result.bias = made, made_bias
            break
        share = max(0.0, share - less)
        less *= 2
    result.share = share
    return result


def _share(start: Matrix, end: Matrix, shipped: Matrix) -> float:
    if within(end, shipped):
        return 1.0
    if not within(start, shipped):
        return 0.0
    by_kl, by_overlap = kl(end, shipped) > KL_BUDGET, overlap(end, shipped) < OVERLAP_BUDGET
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        z = start + middle * (end - start)
        beyond = (by_kl and kl(z, shipped) > KL_BUDGET) or (
            by_overlap and overlap(z, shipped) < OVERLAP_BUDGET
        )
        low, high = (low, middle) if beyond else (middle, high)
    return low
