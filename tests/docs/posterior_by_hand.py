"""The default night of docs/on-the-device.md, step by step: what the Swift does, apart from grpo's tensors.

Names and step numbers are the page's. Nothing here comes from `grpo`.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

TOP = 8
STAKES = (0.25, 0.6, 1.0)
GATE, LEAST_CONTRASTS, BLOCK = 20.0, 20, 25
TASTE_WIDTH, ALPHA_WIDTH = 3.0, 100.0
WIDTHS = (3.0, 0.3)
LEAST_NOISE = 1e-12
GROWN, CHANGED = 1.2, math.log(1000)
KL_BUDGET, OVERLAP_BUDGET, ERRORS = 0.5, 0.7, 1.64
DEVIATIONS = 10.0
KINDS, LIKENESS_WIDTH = 32, 0.05


class Candidate(NamedTuple):
    tokens: list[int]
    reward: float | None


@dataclass(frozen=True)
class Sums:
    """Evidence: S (V + 2 + L, V + 2 + L) over [x m y z], and its contrasts."""

    s: Matrix
    contrasts: int
    tokens: int

    def plus(self, other: "Sums") -> "Sums":
        return Sums(self.s + other.s, self.contrasts + other.contrasts, self.tokens)

    @property
    def none(self) -> "Sums":
        return Sums(np.zeros_like(self.s), 0, self.tokens)

    @property
    def learnable(self) -> bool:
        return self.contrasts > 1 and self.s[self.tokens + 1, self.tokens + 1] > 0


@dataclass(frozen=True)
class State:
    """What a device keeps of the nights."""

    before: Sums
    since: Sums
    log_likelihood: float | None = None
    logs: tuple[float, ...] = (0.0, 0.0, 0.0)
    peak: float = 0.0
    width: float = 0.0
    width_contrasts: int = 0

    @classmethod
    def start(cls, tokens: int, reference: int) -> "State":
        size = tokens + 2 + min(KINDS, reference)
        none = Sums(np.zeros((size, size)), 0, tokens)
        return cls(none, none)


class Taste(NamedTuple):
    """Step 3."""

    width: float
    theta: Matrix
    alpha: float
    noise: float
    log_ml: float
    gain: float


class Night(NamedTuple):
    state: State
    tonight: Sums
    relevance: list[list[float | None]]
    advantages: list[list[float | None]]
    likeness: Matrix
    taste: Taste | None
    limit: float
    direction: Matrix
    step: float
    bias: NDArray[np.float32]
    spent: tuple[float, float, float]


def top(z: Matrix) -> set[int]:
    return set(np.argsort(-z, kind="stable")[:TOP].tolist())


def softmax(z: Matrix) -> Matrix:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def bounds(rewards: list[float]) -> tuple[float, float]:
    """Step 1: what a reward of the night is brought between."""
    middle = sorted(rewards)[(len(rewards) - 1) // 2] if rewards else 0.0
    apart = sorted(abs(r - middle) for r in rewards)
    far = 4 * 1.4826 * apart[(len(rewards) - 1) // 2] if rewards else 0.0
    return (middle - far, middle + far) if far > 0 else (-math.inf, math.inf)


def likeness_of(latents: NDArray[np.float32], reference: NDArray[np.float32]) -> Matrix:
    """Step 1: z of each text."""
    centre = reference.astype(np.float64).mean(0)
    apart = reference - centre
    unit = math.sqrt(np.mean([(apart @ kind) ** 2 for kind in apart[:KINDS]]))
    return np.array([[(text - centre) @ kind / unit for kind in apart[:KINDS]] for text in latents])


def rows_of(
    texts: list[list[Candidate]], shipped: Matrix, likeness: Matrix
) -> tuple[list[Matrix], list[list[float | None]]]:
    """Step 1: of each text the rows [x m y z] of its heard candidates, and m of every one."""
    tokens = shipped.shape[1]
    rows, relevance = [], []
    low, high = bounds([c.reward for candidates in texts for c in candidates if c.reward is not None])
    for n, candidates in enumerate(texts):
        found: list[Matrix] = []
        ms: list[float | None] = []
        for candidate in candidates:
            if candidate.reward is None:
                ms.append(None)
                continue
            row = np.zeros(tokens + 2)
            for token in candidate.tokens:
                row[token] = 1 / len(candidate.tokens)
            m = sum(shipped[n][t] - shipped[n].mean() for t in candidate.tokens) / len(candidate.tokens)
            row[-2], row[-1] = m, min(max(candidate.reward, low), high)
            ms.append(float(m))
            found.append(np.concatenate([row, likeness[n]]))
        rows.append(np.array(found).reshape(len(found), tokens + 2 + likeness.shape[1]))
        relevance.append(ms)
    return rows, relevance


def evidence(rows: list[Matrix], tokens: int) -> tuple[Sums, list[Matrix]]:
    """Step 1: the night's sums, and its rows as they are added."""
    moved, weights = [], []
    for text in rows:
        n = len(text)
        if n == 0:
            continue
        moved.append(text - (1 - 1 / math.sqrt(1 + n)) * text.mean(0))
        weights += [1 / math.sqrt(1 + n)] * n
    size = rows[0].shape[1]
    if not moved:
        return Sums(np.zeros((size, size)), 0, tokens), []
    w, every = np.array(weights)[:, None], np.concatenate(moved)
    every = every - w * (w * every).sum(0) / (w * w).sum()
    split = np.cumsum([len(text) for text in moved])[:-1]
    return Sums(every.T @ every, len(every) - 1, tokens), np.split(every, split)


def gate(state: State, rows: list[Matrix]) -> tuple[tuple[float, ...], float]:
    """Step 2: the stakes' logarithms, and the peak's."""
    before = state.before.plus(state.since)
    groups = [text for text in rows if len(text) > 1]
    single = [text for text in rows if len(text) == 1]
    if len(single) > 1:
        parts = math.ceil(len(single) / BLOCK)
        for i in range(parts):
            first, last = i * len(single) // parts, (i + 1) * len(single) // parts
            groups.append(np.concatenate(single[first:last]))
    tokens = before.tokens
    s = before.s[: tokens + 2, : tokens + 2]
    prior = np.diag([1 / TASTE_WIDTH] * tokens + [1 / ALPHA_WIDTH])
    p = np.linalg.inv(s[:-1, :-1] + prior)
    mean = p @ s[:-1, -1]
    left = max(0.0, s[-1, -1] - s[:-1, -1] @ mean)
    contrasts = before.contrasts
    logs, peak = list(state.logs), state.peak
    for text in groups:
        centred = (text - text.mean(0))[:, : tokens + 2]
        x, y, m = centred[:, :-1], centred[:, -1], centred[:, -2]
        v = np.eye(len(y)) + x @ p @ x.T
        theta, alpha = mean[:-1], mean[-1]
        expected, e = x[:, :-1] @ theta, y - alpha * m
        if contrasts >= LEAST_CONTRASTS and left > 0:
            noise = left / contrasts
            t = []
            for k in range(len(y)):
                off = np.roll(e, -k) - expected
                t.append(-off @ np.linalg.solve(v, off) / (2 * noise))
            for i, f in enumerate(STAKES):
                logs[i] += f * t[0] - math.log(np.mean(np.exp(f * (np.array(t) - max(t))))) - f * max(t)
            peak = max(peak, math.log(np.mean(np.exp(np.array(logs) - max(logs)))) + max(logs))
        shock = y - x @ mean
        gain = np.linalg.solve(v, x @ p).T
        mean, p = mean + gain @ shock, p - gain @ x @ p
        left += shock @ np.linalg.solve(v, shock)
        contrasts += len(y) - 1
    return tuple(logs), peak


def without_texts(sums: Sums) -> tuple[Matrix, float]:
    """Step 3: S over [x m y] without what texts are liked for, and what that costs log ML."""
    size = sums.tokens + 2
    r, z = sums.s[:size, :size], sums.s[size:, size:]
    zr = sums.s[size:, :size]
    inner = np.eye(len(z)) / LIKENESS_WIDTH + z
    cost = 0.5 * np.linalg.slogdet(np.eye(len(z)) + LIKENESS_WIDTH * z)[1]
    return r - zr.T @ np.linalg.solve(inner, zr), float(cost)


def taste_at(sums: Sums, widths: tuple[float, ...]) -> Taste:
    """Step 3, at the likeliest of the widths and 0."""
    (s, cost), n = without_texts(sums), sums.contrasts
    m = s[:-2, -2] if s[-2, -2] > 0 else np.zeros(len(s) - 2)
    mm, my = (float(s[-2, -2]), float(s[-2, -1])) if s[-2, -2] > 0 else (1.0, 0.0)
    a = s[:-2, :-2] - np.outer(m, m) / mm
    b = s[:-2, -1] - m * my / mm
    c = max(s[-1, -1] - my * my / mm, LEAST_NOISE * s[-1, -1])
    nothing = -n / 2 * math.log(c / n) - cost
    found = [Taste(0.0, np.zeros(len(b)), my / mm, c / n, nothing, 0.0)]
    for rho in widths:
        inner = np.eye(len(b)) + rho * a
        theta: Matrix = rho * np.linalg.solve(inner, b).astype(np.float64)
        q = max(c - b @ theta, LEAST_NOISE * c)
        ml = -n / 2 * math.log(q / n) - 0.5 * np.linalg.slogdet(inner)[1] - cost
        found.append(Taste(rho, theta, float(my - m @ theta) / mm, q / n, ml, ml - nothing))
    return max(found, key=lambda taste: taste.log_ml)


def change(state: State, tonight: Sums) -> tuple[State, Taste]:
    """Step 4, with step 3 of the sums that count."""
    every, since = state.before.plus(state.since).plus(tonight), state.since.plus(tonight)
    none = every.none
    due = state.width == 0 or every.contrasts >= GROWN * state.width_contrasts
    widths = WIDTHS if due else (state.width,)
    one = taste_at(every, widths)
    joined = replace(state, before=every, since=none, log_likelihood=one.log_ml)
    kept, taste = joined, one
    if state.log_likelihood is not None:
        kept = replace(state, since=since)
        if since.learnable:
            alone = taste_at(since, widths)
            two = state.log_likelihood + alone.log_ml
            if two - one.log_ml > CHANGED:
                kept, taste = replace(state, before=since, since=none, log_likelihood=alone.log_ml), alone
                kept, due = replace(kept, width=0.0, width_contrasts=0), True
            elif two <= one.log_ml:
                kept = joined
    if due:
        counted = kept.before.plus(kept.since).contrasts
        kept = replace(kept, width=taste.width, width_contrasts=counted)
    return kept, taste


def spent(z: Matrix, shipped: Matrix) -> tuple[float, float, float]:
    """Step 5: mean share of the top 8 in common, its standard error, mean KL."""
    shares = np.array([len(top(a) & top(b)) / TOP for a, b in zip(z, shipped, strict=True)])
    kls = [
        (p * np.log(p / q)).sum()
        for p, q in ((softmax(a), softmax(b)) for a, b in zip(z, shipped, strict=True))
    ]
    error = math.sqrt(((shares - shares.mean()) ** 2).mean() / (len(shares) - 1))
    return float(shares.mean()), error, float(np.mean(kls))


def within(use: tuple[float, float, float]) -> bool:
    return use[0] - ERRORS * use[1] >= OVERLAP_BUDGET and use[2] <= KL_BUDGET


def step_of(taste: Taste, shipped: Matrix, direction: Matrix) -> tuple[float, float]:
    """Step 5: the longest step that is worth it, and the longest that keeps the budgets."""
    size = math.sqrt((taste.theta**2).mean())
    centred = shipped - shipped.mean(1, keepdims=True)
    limit = 1 / max(taste.alpha, size / (DEVIATIONS * math.sqrt((centred**2).mean())))
    low, high = 0.0, limit
    if within(spent(shipped + limit * direction, shipped)):
        return limit, limit
    while high - low > 2**-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if within(spent(shipped + middle * direction, shipped)) else (low, middle)
    return limit, low


def night(
    texts: list[list[Candidate]],
    latents: NDArray[np.float32],
    state: State,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    reference: NDArray[np.float32],
) -> Night:
    """Steps 1 to 5; weight and bias are those that shipped."""
    likeness = likeness_of(latents, reference)
    logits = latents.astype(np.float64) @ weight.T.astype(np.float64) + bias
    rows, relevance = rows_of(texts, logits, likeness)
    tonight, whitened = evidence(rows, len(bias))
    left = iter(whitened)
    ys = [iter(next(left)[:, len(bias) + 1].tolist()) if len(text) else iter(()) for text in rows]
    advantages = [
        [None if m is None else next(y) for m in text] for text, y in zip(relevance, ys, strict=True)
    ]
    if state.peak < math.log(GATE):
        logs, peak = gate(state, rows)
        state = replace(state, logs=logs, peak=peak)
    nothing, same = np.zeros(len(bias)), (1.0, 0.0, 0.0)
    every = state.before.plus(state.since).plus(tonight)
    if state.peak < math.log(GATE) or not every.learnable:
        state = replace(state, before=every, since=every.none, log_likelihood=None)
        return Night(state, tonight, relevance, advantages, likeness, None, 0.0, nothing, 0.0, bias, same)
    state, taste = change(state, tonight)
    size = math.sqrt((taste.theta**2).mean())
    direction = np.sign(taste.theta) * np.maximum(np.abs(taste.theta) - size / 2, 0)
    shipped = reference.astype(np.float64) @ weight.T.astype(np.float64) + bias
    limit, step = (0.0, 0.0) if size == 0 else step_of(taste, shipped, direction)
    made = (bias + step * direction).astype(np.float32)
    use = spent(shipped + step * direction, shipped)
    return Night(state, tonight, relevance, advantages, likeness, taste, limit, direction, step, made, use)
