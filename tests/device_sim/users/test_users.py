"""Simulated users against the definition of their rewards; nights and baselines on a small world."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor

from device_sim.users.nights import Night, NightsConfig, Texts, live, oracle_share
from device_sim.users.users import FunctionUser, SimulatedUser, UserConfig, make_user, parse_user
from grpo.baselines import BaselineConfig, one_hot, reinforce
from grpo.config import GRPOConfig
from grpo.groups import Groups
from grpo.head import Head
from grpo.plackett_luce import PlackettLuce
from personality_common.errors import DataError, ToolkitError

VOCABULARY, DIM = 40, 16


def unit(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, DIM, generator=generator), dim=-1)


TOKENS, TEXTS = unit(VOCABULARY, 1), unit(300, 2)


def user_of(text: str, seed: int = 0) -> SimulatedUser:
    user = make_user(text, TOKENS, TEXTS, seed)
    assert isinstance(user, SimulatedUser)
    return user


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def actions_of(texts: int, group: int, seed: int = 3) -> Tensor:
    return torch.rand(texts, group, VOCABULARY, generator=generator(seed)).argsort(-1)[..., :8]


def test_profile_reward_is_relevance_and_taste() -> None:
    user = user_of("profile:strength=2,noise=0")
    actions = actions_of(5, 3)
    rewards = user.rewards(TEXTS[:5], actions, 0, generator())
    cosines = [[float(a @ b) for b in TOKENS] for a in TEXTS]
    flat = [c for row in cosines for c in row]
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((c - mean) ** 2 for c in flat) / (len(flat) - 1))
    taste = user.taste(0).tolist()
    for text in range(5):
        for column in range(3):
            chosen = actions[text, column].tolist()
            expected = sum(cosines[text][v] / deviation + 2 * taste[v] for v in chosen) / 8
            assert float(rewards[text, column]) == pytest.approx(expected, abs=1e-4)
    best = user.oracle(TEXTS[:5], 0)
    assert bool((best[:, None] >= rewards).all())
    assert float(best[0]) == pytest.approx(
        sum(sorted((c / deviation + 2 * t for c, t in zip(cosines[0], taste, strict=True)), reverse=True)[:8])
        / 8,
        abs=1e-4,
    )


def test_padding_does_not_count_and_an_empty_set_has_no_reward() -> None:
    user = user_of("profile:noise=0")
    actions = actions_of(1, 3)
    actions[0, 1, 2:] = -1
    actions[0, 2] = -1
    value = user.value(TEXTS[:1], actions, 0)[0]
    scores = user.scores(TEXTS[:1], 0)[0]
    assert float(value[1]) == pytest.approx(float(scores[actions[0, 1, :2]].mean()), abs=1e-6)
    assert bool(value[2].isnan())


def test_noise_is_seeded_and_has_its_size() -> None:
    user = user_of("profile:noise=0.3")
    actions = actions_of(300, 20)
    first, again = (user.rewards(TEXTS, actions, 0, generator(4)) for _ in range(2))
    assert torch.equal(first, again)
    noise = first - user.value(TEXTS, actions, 0)
    assert float(noise.std()) == pytest.approx(0.3, rel=0.05)
    assert abs(float(noise.mean())) < 0.02
    assert not torch.equal(user_of("profile", 1).taste(0), user.taste(0))


def test_thumbs_are_binary_sparse_and_only_on_what_was_shown() -> None:
    rewards = user_of("thumbs:shown=3,answers=0.4").rewards(TEXTS, actions_of(300, 8), 0, generator())
    assert bool(rewards[:, 3:].isnan().all())
    given = rewards[:, :3]
    assert set(given[~given.isnan()].tolist()) == {0.0, 1.0}
    assert float((~given.isnan()).double().mean()) == pytest.approx(0.4, abs=0.06)
    everything = user_of("thumbs:answers=1,noise=0").rewards(TEXTS, actions_of(300, 8), 0, generator())
    value = user_of("thumbs:noise=0").value(TEXTS, actions_of(300, 8), 0)
    assert torch.equal(everything == 1, value > value.mean())


def test_drifting_changes_taste_on_its_night_and_only_then() -> None:
    user = user_of("drifting:drift_night=2")
    tastes = [user.taste(night) for night in range(4)]
    assert torch.equal(tastes[0], tastes[1])
    assert torch.equal(tastes[2], tastes[3])
    assert abs(float(torch.corrcoef(torch.stack([tastes[1], tastes[2]]))[0, 1])) < 0.5


def test_contrary_mirrors_a_share_at_the_group_s_mean() -> None:
    actions = actions_of(300, 8)
    honest = user_of("profile:noise=0").rewards(TEXTS, actions, 0, generator())
    contrary = user_of("contrary:noise=0,inverted=0.25").rewards(TEXTS, actions, 0, generator())
    changed = ~torch.isclose(contrary, honest, atol=1e-5)
    assert float(changed.double().mean()) == pytest.approx(0.25, abs=0.04)
    mirrored = 2 * honest.mean(-1, keepdim=True) - honest
    torch.testing.assert_close(contrary[changed], mirrored[changed], rtol=0, atol=1e-5)


def test_random_ignores_what_is_shown() -> None:
    user = user_of("random")
    first, second = (user.rewards(TEXTS[:9], actions_of(9, 8, s), 0, generator()) for s in (1, 2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nobody", "or module:function, got 'nobody'"),
        ("thumbs:mood=3", "parameters of a user are strength"),
        ("thumbs:answers=lots", "answers must be a number"),
        ("thumbs:answers=2", "answers of a simulated user must be from 0 to 1"),
        ("thumbs:shown=0", "shown of a simulated user must be from 1"),
        ("no_such_module_here:f", "must name a function that can be imported"),
        ("math:pi", "must name a function, got float"),
    ],
)
def test_descriptions_that_make_no_user(text: str, message: str) -> None:
    with pytest.raises(ToolkitError, match=message):
        parse_user(text)


def test_one_s_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_user")
    module.likes = lambda texts, actions, night, generator: -actions.float().mean(-1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_user", module)
    user = make_user("own_user:likes", TOKENS, TEXTS, 0)
    assert isinstance(user, FunctionUser)
    assert user.rewards(TEXTS[:1], torch.tensor([[[2, 4]]]), 0, generator()).tolist() == [[-3.0]]


def test_a_reward_function_that_misbehaves_is_named_and_never_quoted() -> None:
    def raises(*_: object) -> Tensor:
        raise ValueError("my secret diary")

    actions = actions_of(2, 3)
    for function, message in (
        (raises, "the reward function f must not raise, got ValueError on night 4"),
        (lambda *_: torch.zeros(2), r"must return a float tensor \(2, 3\), got \(2,\) torch.float32"),
        (lambda *_: torch.zeros(2, 3, dtype=torch.int64), "got \\(2, 3\\) torch.int64"),
        (lambda *_: None, "got NoneType"),
        (lambda *_: torch.full((2, 3), math.inf), "finite numbers or NaN"),
    ):
        user = FunctionUser("f", function, 0)  # type: ignore[arg-type]
        with pytest.raises(ToolkitError, match=message) as caught:
            user.rewards(TEXTS[:2], actions, 4, generator())
        assert "secret" not in str(caught.value)


# Nights, on a world where the latent is the base embedding and the shipped head ranks by relevance.
SHIPPED = Head((TOKENS - TOKENS.mean(0)) / 0.3, torch.zeros(VOCABULARY))
TRAINING, HELD_OUT = Texts(TEXTS[100:], TEXTS[100:]), Texts(TEXTS[:100], TEXTS[:100])
OPEN = GRPOConfig(kl_stop=None, kl_budget=None, overlap_budget=None)


def nights(user: str, config: GRPOConfig, **options: int) -> list[Night]:
    days = NightsConfig(**{"nights": 4, "interactions": 30, **options})
    return live(make_user(user, TOKENS, TEXTS, 5), TRAINING, HELD_OUT, SHIPPED, config, days)


def test_a_profile_user_gets_a_better_head_and_a_random_one_does_not() -> None:
    profile, random = (nights(user, OPEN)[-1] for user in ("profile", "random"))
    assert profile.low > 0
    assert profile.oracle_share is not None
    assert 0.3 < profile.oracle_share < 1
    assert random.rise < 0.02
    within = nights("random", GRPOConfig())[-1]
    assert within.overlap > random.overlap
    assert within.overlap >= 0.6


def test_nights_repeat_with_the_seed() -> None:
    first, again, other = (nights("thumbs", OPEN, nights=2, seed=s)[-1].head for s in (3, 3, 4))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_replay_reads_earlier_nights_with_their_log_probabilities() -> None:
    records = nights("profile", OPEN, replay=3)
    candidates = [r.result.night.candidates for r in records if r.result is not None]
    assert candidates == [240, 480, 720, 720]
    assert records[-1].low > 0


def test_training_texts_are_never_used_twice() -> None:
    with pytest.raises(DataError, match="must be 210 or more"):
        nights("profile", OPEN, nights=7)


def test_reinforce_is_its_definition() -> None:
    policy = PlackettLuce()
    groups = Groups(
        policy.sample(SHIPPED.logits(TEXTS[:6]), 4, generator()), {"reward": torch.rand(6, 4).double()}
    )
    groups.rewards["reward"][0, 0] = torch.nan
    config = BaselineConfig(learning_rate=0.7, steps=1)
    actual = reinforce(TEXTS[:6], groups, SHIPPED, GRPOConfig(), config)
    weight, bias = (t.clone().requires_grad_() for t in SHIPPED)
    z = TEXTS[:6] @ weight.T + bias
    reward = groups.rewards["reward"]
    advantage = torch.where(reward.isnan(), 0.0, reward - reward.nanmean())
    loss, gone = torch.zeros(()), torch.zeros(6, 4, VOCABULARY, dtype=torch.bool)
    for j in range(8):
        token = groups.actions[..., j]
        log_p = z[:, None].expand_as(gone).masked_fill(gone, -torch.inf).log_softmax(-1)
        loss = loss - (advantage * log_p.gather(-1, token[..., None])[..., 0]).sum() / 23
        gone = gone | torch.nn.functional.one_hot(token, VOCABULARY).bool()
    loss.backward()
    assert bias.grad is not None
    torch.testing.assert_close(actual.bias, (bias - 0.7 * bias.grad).detach(), rtol=0, atol=1e-6)


def test_one_hot_is_sgd_under_mse() -> None:
    actions = torch.tensor([[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    groups = Groups(actions, {"reward": torch.tensor([[1.0, 0.0], [0.9, 0.1]])})
    actual = one_hot(TEXTS[:2], groups, SHIPPED, GRPOConfig(), BaselineConfig(learning_rate=3.0, steps=2))
    targets = torch.zeros(2, VOCABULARY)
    targets[0, [0, 1]] = 1
    targets[1, [4, 5]] = 1
    layer = torch.nn.Linear(DIM, VOCABULARY)
    layer.load_state_dict({"weight": SHIPPED.weight, "bias": SHIPPED.bias})
    optimizer = torch.optim.SGD(layer.parameters(), 3.0)
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(layer(TEXTS[:2]), targets).backward()
        optimizer.step()
    torch.testing.assert_close(actual.weight, layer.weight.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(actual.bias, layer.bias.detach(), rtol=0, atol=1e-6)
    disliked = Groups(actions, {"reward": torch.full((2, 2), 0.5)})
    assert one_hot(TEXTS[:2], disliked, SHIPPED, GRPOConfig(), BaselineConfig(1.0, 1)) is SHIPPED


def test_configs_check_themselves() -> None:
    for make, message in (
        (lambda: UserConfig(kind="nobody"), "must be one of profile"),  # type: ignore[arg-type]
        (lambda: NightsConfig(group=0), "group must be 1 or more"),
        (lambda: BaselineConfig(0.0, 1), "learning_rate must be positive"),
    ):
        with pytest.raises(ToolkitError, match=message):
            make()
    with pytest.raises(DataError, match="a latent and an embedding each, got 300 and 5"):
        Texts(TEXTS, TEXTS[:5])
    with pytest.raises(DataError, match="one space"):
        make_user("profile", TOKENS, TEXTS[:, :4], 0)


def test_where_there_is_next_to_nothing_to_gain_no_share_is_said() -> None:
    assert oracle_share(0.3, 0.6) == 0.5
    assert oracle_share(-0.3, 0.6) == -0.5
    assert oracle_share(-1.07, 0.001) is None
    assert oracle_share(0.1, 0.0499) is None
    assert oracle_share(0.1, float("nan")) is None
