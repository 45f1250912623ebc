"""How likely a language model finds tokens, without ever holding the logits of all of them.

A vocabulary of 32,128 tokens makes 128 kB of logits a position. They are computed for a few positions at a time, which
stay in the CPU's cache, and once more on the way back.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LOGITS = {"cpu": 1 << 19, "cuda": 1 << 25}  # that are held at once


def log_odds(states: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
    """Return log p/(1 − p) of tokens (n,) under softmax(states · rowsᵀ): states (n, d), rows (vocabulary, d), ids (n,).

    The token's logit less the log-sum-exp of all others: exact even where p rounds to 1, unlike log(1 − exp(log p)).
    """
    return _LogOdds.apply(states, rows, ids)


class _LogOdds(torch.autograd.Function):
    @staticmethod
    def forward(ctx, states: Tensor, rows: Tensor, ids: Tensor) -> Tensor:
        found, others = (states.new_empty(len(ids), dtype=torch.float32) for _ in range(2))
        for part in _parts(states, rows):
            logits, chosen = _logits(states[part], rows), ids[part, None]
            found[part] = logits.gather(1, chosen).squeeze(1)
            others[part] = logits.scatter_(1, chosen, -torch.inf).logsumexp(1)
        ctx.save_for_backward(states, rows, ids, others)
        ctx.half = torch.is_autocast_enabled(states.device.type)
        return found - others

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states, rows, ids, others = ctx.saved_tensors
        of_states, of_rows = torch.empty_like(states), torch.zeros_like(rows)
        with torch.autocast(states.device.type, torch.bfloat16, enabled=ctx.half):
            for part in _parts(states, rows):
                logits, own = _logits(states[part], rows), gradient[part, None]
                logits.sub_(others[part, None]).exp_().mul_(-own).scatter_(1, ids[part, None], own)
                of_states[part] = (logits @ rows).to(states.dtype)
                of_rows += logits.T @ states[part]
        return of_states, of_rows, None


def _parts(states: Tensor, rows: Tensor) -> list[slice]:
    size = max(1, LOGITS[states.device.type] // len(rows))
    return [slice(begin, begin + size) for begin in range(0, len(states), size)]


def _logits(states: Tensor, rows: Tensor) -> Tensor:
    return F.linear(states, rows).float()
