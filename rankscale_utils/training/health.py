"""When a run has failed: its loss is no number or blew up, or its scores no longer tell documents apart."""

from dataclasses import dataclass, field

import numpy as np

STEPS_WATCHED = 50  # steps over which the loss is smoothed, and for which scores must be flat
BLOWN_UP = 3.0  # a smoothed loss of so many times its start
FLAT = 1e-6  # scores that differ by less, relative to the largest, are tied


class Diverged(ArithmeticError):
    """The run stopped learning; the message says how and at which step."""


@dataclass
class Health:
    """What a run's steps say of its health.

    The rule: a loss that is no number fails a run at once. After warm-up, so does a mean loss over the last 50 steps
    above three times the mean over the first 50, and 50 steps in a row in which every group's scores are tied.
    """

    losses: list[float] = field(default_factory=list)
    flat_steps: int = 0

    @property
    def last(self) -> float:
        """The last step's loss, no number before the first."""
        return self.losses[-1] if self.losses else float("nan")

    def note(self, loss: float, scores: np.ndarray, warmup: int) -> None:
        """Count a step's loss and scores (queries, group); raise Diverged when the run has failed."""
        if not np.isfinite(loss):
            raise Diverged(f"the loss became {loss} at step {len(self.losses) + 1}")
        self.losses.append(loss)
        spread, largest = np.ptp(scores, axis=1), np.abs(scores).max()
        tied = scores.shape[1] > 1 and (spread <= FLAT * max(1.0, largest)).all()
        self.flat_steps = self.flat_steps + 1 if tied else 0
        step = len(self.losses)
        if step < warmup + 2 * STEPS_WATCHED:
            return
        start, now = np.mean(self.losses[:STEPS_WATCHED]), np.mean(self.losses[-STEPS_WATCHED:])
        if now > BLOWN_UP * start:
            raise Diverged(f"the loss blew up from {start:.3g} to {now:.3g} by step {step}")
        if self.flat_steps >= STEPS_WATCHED:
            raise Diverged(f"the scores of every group were tied for {STEPS_WATCHED} steps by step {step}")
