from itertools import islice

import numpy as np
import pytest

from rankscale_utils.collections.groups import TrainingQueries, steps
from rankscale_utils.parts import Groups

GROUPS = Groups(hard=3, random=2, hard_depth=6, queries_per_step=4)
QUERIES = 22  # five whole steps an epoch, and two queries left over


@pytest.fixture
def training():
    rng = np.random.default_rng(0)
    positive = 100 + np.arange(QUERIES)
    hard = np.stack([rng.permutation(np.setdiff1d(100 + np.arange(QUERIES), row))[:6] for row in positive])
    return TrainingQueries(np.arange(QUERIES), positive, hard, 100 + np.arange(QUERIES + 8))


def taken(training, count, seed=1, start=0, groups=GROUPS):
    return list(islice(steps(training, groups, seed, start), count))


def same(one, other):
    return all(
        np.array_equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def test_the_same_seed_gives_the_same_steps_and_another_seed_others(training):
    assert same(taken(training, 12), taken(training, 12))
    for one, other in zip(taken(training, 12), taken(training, 12, seed=2), strict=True):
        assert not np.array_equal(one[0], other[0])


@pytest.mark.parametrize("start", [1, 4, 5, 7, 11])
def test_a_resumed_run_takes_the_steps_that_were_left(training, start):
    assert same(taken(training, 14)[start:], taken(training, 14 - start, start=start))


def test_an_epoch_asks_each_query_once_and_each_epoch_in_another_order(training):
    whole = taken(training, 10)
    epochs = [np.concatenate([queries[:, 0] for queries, _ in whole[begin : begin + 5]]) for begin in (0, 5)]
    for asked in epochs:
        assert len(set(asked)) == len(asked) == 20
    assert epochs[0].tolist() != epochs[1].tolist()
    everything = taken(training, 5, groups=GROUPS.model_copy(update={"queries_per_step": 2, "hard": 1}))
    asked = np.concatenate([queries[:, 0] for queries, _ in islice(steps(training, GROUPS, 1), 50)])
    assert set(asked) == set(range(QUERIES))  # what one epoch leaves over another asks
    assert len(everything[0][0]) == 2


def test_a_group_is_the_relevant_document_then_hard_then_random_ones(training):
    for queries, documents in taken(training, 40):
        assert queries.shape == documents.shape == (4, GROUPS.size)
        assert (queries == queries[:, :1]).all()
        rows = queries[:, 0]
        np.testing.assert_array_equal(documents[:, 0], training.positive_rows[rows])
        for row, group in zip(rows, documents, strict=True):
            hard, random = group[1:4], group[4:]
            assert len(set(hard)) == 3
            assert set(hard) <= set(training.hard_rows[row])
            assert set(random) <= set(training.document_rows)
            assert training.positive_rows[row] not in group[1:]


def test_hard_negatives_come_from_the_whole_depth_evenly(training):
    counts = np.zeros((QUERIES, 6))
    for queries, documents in taken(training, 1000):
        for row, group in zip(queries[:, 0], documents, strict=True):
            counts[row] += np.isin(training.hard_rows[row], group[1:4])
    share = counts.sum(0) / counts.sum()
    np.testing.assert_allclose(share, 1 / 6, atol=0.01)


def test_the_relevant_document_is_no_random_negative_even_where_there_are_few_others():
    positive = np.array([7, 8])
    training = TrainingQueries(np.array([0, 1]), positive, np.array([[8], [7]]), np.array([7, 8]))
    groups = Groups(hard=0, random=3, hard_depth=1, queries_per_step=2)
    for queries, documents in taken(training, 30, groups=groups):
        assert (documents[:, 1:] != positive[queries[:, 0]][:, None]).all()
