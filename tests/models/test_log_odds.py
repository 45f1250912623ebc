import pytest
import torch

from rankscale_utils.models.log_odds import LOGITS, log_odds


def plain(states, rows, ids):
    """The definition, in one piece."""
    probability = (states @ rows.T).softmax(-1).gather(1, ids[:, None]).squeeze(1)
    return probability.log() - (1 - probability).log()


@pytest.mark.parametrize("held", [1, 90, 1 << 20])
def test_values_and_gradients_are_those_of_the_definition(monkeypatch, held):
    monkeypatch.setitem(LOGITS, "cpu", held)  # a position at a time, three, all
    torch.manual_seed(0)
    states, rows, ids = torch.randn(7, 5), torch.randn(30, 5), torch.randint(30, (7,))
    found = []
    for work in (log_odds, plain):
        inputs = [states.clone().requires_grad_(), rows.clone().requires_grad_()]
        values = work(*inputs, ids)
        (values * torch.arange(1.0, 8)).sum().backward()
        found.append([values.detach(), *(one.grad for one in inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_token_that_is_certain_has_finite_odds_and_gradients():
    states = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    rows = torch.tensor([[1.0], [0.0], [0.0]], requires_grad=True)
    odds = log_odds(states, rows, torch.tensor([0, 0]))
    torch.testing.assert_close(odds, torch.tensor([200.0, -200.0]) - torch.tensor(2.0).log())
    odds.sum().backward()
    assert torch.isfinite(states.grad).all()
    assert torch.isfinite(rows.grad).all()
    torch.testing.assert_close(states.grad, torch.ones(2, 1))


def test_no_positions_have_no_odds():
    assert log_odds(torch.empty(0, 4), torch.randn(9, 4), torch.empty(0, dtype=torch.long)).shape == (0,)


def test_half_precision_stays_near():
    torch.manual_seed(0)
    states, rows, ids = torch.randn(6, 16, requires_grad=True), torch.randn(20, 16), torch.randint(20, (6,))
    exact = log_odds(states, rows, ids)
    (expected,) = torch.autograd.grad(exact.sum(), states)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = log_odds(states, rows, ids)
    (gradient,) = torch.autograd.grad(rounded.sum(), states)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.1, rtol=0.05)
    torch.testing.assert_close(gradient, expected, atol=0.1, rtol=0.05)
