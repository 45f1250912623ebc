import numpy as np
import pytest

from rankscale_utils.training.health import STEPS_WATCHED, Diverged, Health

SCORES = np.array([[0.0, 1.0], [2.0, 1.0]])
TIED = np.array([[1.0, 1.0], [3.0, 3.0]])


def train(losses, scores=SCORES, warmup=0):
    health = Health()
    for loss in losses:
        health.note(loss, scores, warmup)
    return health


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_a_loss_that_is_no_number_fails_at_once(loss):
    with pytest.raises(Diverged, match=f"the loss became {loss} at step 3"):
        train([1.0, 1.0, loss])


def test_a_loss_that_blows_up_fails_and_one_that_jumps_does_not():
    with pytest.raises(Diverged, match=r"the loss blew up from 1 to 3\.\d+ by step \d+"):
        train([1.0] * 100 + [4.0] * STEPS_WATCHED)
    train([1.0] * 100 + [50.0] + [1.0] * 100 + [2.9] * 200)


def test_warm_up_is_no_failure():
    with pytest.raises(Diverged, match="by step 600"):
        train([1.0] * 100 + [4.0] * 600, warmup=500)


def test_tied_scores_fail_only_after_many_steps_in_a_row():
    with pytest.raises(Diverged, match=f"the scores of every group were tied for {STEPS_WATCHED} steps"):
        train([1.0] * 200, TIED)
    health = train([1.0] * (STEPS_WATCHED - 1), TIED)
    health.note(1.0, SCORES, 0)
    assert health.flat_steps == 0


def test_one_group_that_is_told_apart_is_enough():
    train([1.0] * 300, np.array([[1.0, 1.0], [1.0, 1.1]]))
