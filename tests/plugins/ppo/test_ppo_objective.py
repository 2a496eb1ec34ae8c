"""PPO's arithmetic, against numbers worked out by hand and against the definitions, term by term."""

from __future__ import annotations

import math

import pytest
import torch
from alignzoo_plugins.online.ppo.objective import (
    estimate_advantages,
    explained_variance,
    kl_estimate,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

NAN = math.nan

#: Answers of 3 and 2 tokens.
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])
REWARDS = torch.tensor([[0.0, 0.0, 1.0], [-0.1, 2.0, NAN]])
VALUES = torch.tensor([[0.5, 0.6, 0.7], [1.0, 1.0, NAN]])


def test_advantages_and_returns_worked_out_by_hand() -> None:
    """With gamma 0.9 and lambda 0.8.

    First answer: the errors are 0.9 x 0.6 - 0.5 = 0.04, 0.9 x 0.7 - 0.6 = 0.03 and 1 - 0.7 = 0.3; the advantages, from
    behind, 0.3, 0.03 + 0.72 x 0.3 = 0.246, 0.04 + 0.72 x 0.246 = 0.21712. Second: -0.1 + 0.9 - 1 = -0.2 and 2 - 1 = 1;
    1 and -0.2 + 0.72 = 0.52.
    """
    advantages = estimate_advantages(REWARDS, VALUES, MASK, gamma=0.9, lam=0.8)
    assert advantages.tolist() == [
        pytest.approx([0.21712, 0.246, 0.3], abs=1e-6),
        pytest.approx([0.52, 1.0, 0.0], abs=1e-6),
    ]
    returns = torch.where(MASK.bool(), advantages + VALUES, 0.0)
    assert returns.tolist() == [
        pytest.approx([0.71712, 0.846, 1.0], abs=1e-6),
        pytest.approx([1.52, 2.0, 0.0], abs=1e-6),
    ]


def by_definition(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Return Schulman et al., 2016, equation 16, for one answer: every later error, summed anew for each token."""
    after = [*values[1:], 0.0]
    errors = [r + gamma * later - v for r, v, later in zip(rewards, values, after, strict=True)]
    steps = range(len(errors))
    return [sum((gamma * lam) ** (later - now) * errors[later] for later in steps if later >= now) for now in steps]


number = st.floats(-10, 10)
answers = st.lists(st.lists(st.tuples(number, number), min_size=1, max_size=8), min_size=1, max_size=4)


def padded(rows: list[list[float]], fill: float) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], dtype=torch.float64)


@given(answers, st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.0, NAN, 1e6]))
def test_advantages_follow_the_definition(
    rows: list[list[tuple[float, float]]], gamma: float, lam: float, behind: float
) -> None:
    rewards, values = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    mask = padded([[1.0] * len(row) for row in rows], 0.0)
    found = estimate_advantages(padded(rewards, behind), padded(values, behind), mask, gamma, lam)
    expected = padded([by_definition(r, v, gamma, lam) for r, v in zip(rewards, values, strict=True)], 0.0)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@given(answers)
def test_lambda_1_trusts_the_rewards_and_lambda_0_the_values(rows: list[list[tuple[float, float]]]) -> None:
    row = rows[0]
    rewards, values = padded([[r for r, _ in row]], 0.0), padded([[v for _, v in row]], 0.0)
    mask = torch.ones_like(rewards)
    to_come = rewards.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(estimate_advantages(rewards, values, mask, 1.0, 1.0), to_come - values)
    after = torch.cat([values[:, 1:], torch.zeros(1, 1, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(estimate_advantages(rewards, values, mask, 1.0, 0.0), rewards + after - values)


def test_the_score_comes_with_the_last_token_and_the_penalty_with_each() -> None:
    kl = torch.tensor([[0.1, -0.2, 0.3], [0.5, 0.0, NAN]])
    rewards = token_rewards(torch.tensor([2.0, -1.0]), kl, MASK, beta=0.5)
    assert rewards.tolist() == [pytest.approx([-0.05, 0.1, 2 - 0.15]), pytest.approx([-0.25, -1.0, 0.0])]


@pytest.mark.parametrize(
    ("kind", "expected"), [("k1", math.log(2)), ("k2", math.log(2) ** 2 / 2), ("k3", -0.5 + math.log(2))]
)
def test_kl_of_one_token(kind: str, expected: float) -> None:
    """The policy holds the token for twice as likely as the start model: k3 is 1/2 - 1 + ln 2."""
    found = kl_estimate(torch.tensor([0.4]).log(), torch.tensor([0.2]).log(), kind)
    assert found.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_kl_estimates_are_unbiased(kind: str) -> None:
    """Averaged over all tokens, as often as the policy draws each, they are the divergence itself."""
    policy, reference = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    exact = (policy * (policy / reference).log()).sum()
    assert (policy * kl_estimate(policy.log(), reference.log(), kind)).sum().item() == pytest.approx(exact.item())


@pytest.mark.parametrize("kind", ["k2", "k3"])
@given(policy=st.floats(-20, 0), reference=st.floats(-20, 0))
def test_k2_and_k3_are_never_negative(kind: str, policy: float, reference: float) -> None:
    pair = torch.tensor([policy, reference], dtype=torch.float64)
    assert kl_estimate(pair[0], pair[1], kind) >= -1e-12


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.19, 2.0, -2.38, False),
        (1.21, 2.0, -2.4, True),  # it gains nothing more
        (0.5, 2.0, -1.0, False),  # it has lost what it should gain: it may come back
        (0.81, -2.0, 1.62, False),
        (0.79, -2.0, 1.6, True),
        (3.0, -2.0, 6.0, False),
        (1.0, 0.0, 0.0, False),
    ],
)
def test_the_clipped_objective_and_its_gradient(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    """Where clipping decides, nothing pulls; elsewhere the slope in log p is -ratio x advantage."""
    policy = torch.tensor([math.log(ratio) - 1], dtype=torch.float64, requires_grad=True)
    found = policy_loss(policy, torch.tensor([-1.0]), torch.tensor([advantage]), low=0.2, high=0.2)
    found.loss.sum().backward()
    assert found.loss.item() == pytest.approx(loss)
    assert found.clipped.item() is clipped
    assert policy.grad is not None
    assert policy.grad.item() == pytest.approx(0.0 if clipped else -ratio * advantage)


def test_the_clip_range_may_be_wider_upwards() -> None:
    ratios = torch.tensor([1.25, 0.75]).log()
    found = policy_loss(ratios, torch.zeros(2), torch.tensor([1.0, -1.0]), low=0.2, high=0.3)
    assert found.clipped.tolist() == [False, True]


@pytest.mark.parametrize(
    ("value", "loss", "slope"),
    [
        (0.1, 0.9**2 / 2, -0.9),  # within reach of the old value, 0
        (0.5, 0.8**2 / 2, 0.0),  # nearer than its reach allows: the error at 0.2 counts, and nothing pulls
        (-0.5, 1.5**2 / 2, -1.5),  # out of reach on the wrong side: it is pulled back
        (3.0, 2.0**2 / 2, 2.0),  # beyond the return, and worse than 0.2 would be
    ],
)
def test_the_value_loss_and_its_gradient(value: float, loss: float, slope: float) -> None:
    values = torch.tensor([value], requires_grad=True)
    found = value_loss(values, torch.zeros(1), torch.ones(1), reach=0.2)
    found.loss.sum().backward()
    assert found.loss.item() == pytest.approx(loss)
    assert found.clipped.item() is (slope == 0)
    assert values.grad is not None
    assert values.grad.item() == pytest.approx(slope)


def test_whitening_counts_tokens_alone() -> None:
    white = whiten(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, NAN]]), MASK)
    step = 1 / math.sqrt(2)  # the variance of 1 to 5 is 2
    assert white.flatten().tolist() == pytest.approx([-2 * step, -step, 0, step, 2 * step, 0], abs=1e-6)


def test_constant_numbers_are_whitened_to_0() -> None:
    assert whiten(torch.full((2, 3), 7.0), MASK).abs().max() == 0


def test_a_mean_is_over_tokens_and_not_over_answers() -> None:
    assert masked_mean(torch.tensor([[1.0, 1.0, 1.0], [6.0, 6.0, NAN]]), MASK).item() == pytest.approx(3.0)


def test_explained_variance() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, NAN]])
    assert explained_variance(returns + 7, returns, MASK) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(2, 3), returns, MASK) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, MASK) == pytest.approx(-3.0)
    assert explained_variance(returns, torch.ones(2, 3), MASK) is None
