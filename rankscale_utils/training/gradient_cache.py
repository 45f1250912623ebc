"""One step's gradient: exact for every objective, in the memory of one micro-batch, on one process or many.

The step's pairs are scored first, without a graph where they need several micro-batches; the loss over all of them
gives its gradient with respect to every score; each micro-batch is then scored again with its graph, and its share of
that gradient is carried back through the model (GradCache, Gao et al., arXiv 2101.06983). A loss sees the whole step
at once, whatever pairs it compares, so neither micro-batches nor processes change it.
"""

from collections.abc import Callable

import numpy as np
import torch

from rankscale_utils.machine.transfer import send

from .distributed import Processes

Score = Callable[[np.ndarray, int], torch.Tensor]


def micro_batches(lengths: np.ndarray, pairs: int, most: int | None = None) -> list[np.ndarray]:
    """Return the places of a process's pairs in micro-batches of at most `pairs`; lengths: (pairs,) tokens.

    One micro-batch keeps the order; several hold pairs of like length, the longest first, so that one that does not fit
    in memory is known before much work is lost. Every process has as many as the one with `most` pairs needs.
    """
    count = -(-(most or len(lengths)) // pairs)
    if count == 1:
        return [np.arange(len(lengths))]
    return np.array_split(np.argsort(-lengths, kind="stable"), count)


def carry_back(
    score: Score, parts: list[np.ndarray], loss: Callable[[torch.Tensor], torch.Tensor], processes: Processes
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the step's gradient to the model's, and return the loss and every score of the step: (pairs,).

    score(places, part) scores this process's pairs at those places; part numbers the micro-batch, for the same dropout
    in both passes. loss takes the scores of all processes, one after the other. A score may be more than one number:
    texts that are embedded (texts, d) take the same way.
    """
    alone = len(parts) == 1

    def first_pass() -> list[torch.Tensor]:
        with torch.set_grad_enabled(alone):
            return [score(places, part) for part, places in enumerate(parts)]

    scored = processes.together(first_pass)
    order = send(torch.from_numpy(np.concatenate(parts)), scored[0].device)
    own = torch.empty(len(order), *scored[0].shape[1:], device=order.device)
    own[order] = torch.cat([scores.detach() for scores in scored])
    scores = processes.gather(own).requires_grad_()
    value = loss(scores)
    gradient = processes.own_part(*torch.autograd.grad(value, scores), len(own))[order].split([*map(len, parts)])

    def second_pass() -> None:
        for part, places in enumerate(parts):
            (scored[0] if alone else score(places, part)).backward(gradient[part])

    processes.together(second_pass)
    return value.detach(), scores.detach()
