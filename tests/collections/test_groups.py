from itertools import islice

import numpy as np
import pytest

from rankscale_utils.collections.groups import TrainingQueries, random_keys, training_steps
from rankscale_utils.study.training import Groups

GROUPS = Groups(hard=3, random=2, hard_depth=6, queries_per_step=4)
QUERIES = 22  # five whole steps an epoch, and two queries left over


@pytest.fixture
def training():
    rng = np.random.default_rng(0)
    positive = 100 + np.arange(QUERIES)
    hard = np.stack([rng.permutation(np.setdiff1d(100 + np.arange(QUERIES), row))[:6] for row in positive])
    return one_positive_each(np.arange(QUERIES), positive, hard, 100 + np.arange(QUERIES + 8))


def one_positive_each(queries, positive, hard, documents):
    return TrainingQueries(
        queries, positive, np.ones(len(queries)), hard, np.sort(random_keys(queries, positive)), documents
    )


def taken(training, count, seed=1, start=0, groups=GROUPS):
    return list(islice(training_steps(training, groups, seed, start), count))


def same(one, other):
    return all(
        np.array_equal(a, b)
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left[:3], right[:3], strict=True)
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
    epochs = [np.concatenate([queries[:, 0] for queries, *_ in whole[begin : begin + 5]]) for begin in (0, 5)]
    for asked in epochs:
        assert len(set(asked)) == len(asked) == 20
    assert epochs[0].tolist() != epochs[1].tolist()
    everything = taken(training, 5, groups=GROUPS.model_copy(update={"queries_per_step": 2, "hard": 1}))
    asked = np.concatenate([queries[:, 0] for queries, *_ in islice(training_steps(training, GROUPS, 1), 50)])
    assert set(asked) == set(range(QUERIES))  # what one epoch leaves over another asks
    assert len(everything[0][0]) == 2


def test_a_group_is_the_relevant_document_then_hard_then_random_ones(training):
    for queries, documents, relevance, teacher in taken(training, 40):
        assert queries.shape == documents.shape == relevance.shape == (4, GROUPS.size)
        assert relevance.tolist() == [[1, 0, 0, 0, 0, 0]] * 4
        assert teacher is None
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
    for queries, documents, *_ in taken(training, 1000):
        for row, group in zip(queries[:, 0], documents, strict=True):
            counts[row] += np.isin(training.hard_rows[row], group[1:4])
    share = counts.sum(0) / counts.sum()
    np.testing.assert_allclose(share, 1 / 6, atol=0.01)


def test_the_relevant_document_is_no_random_negative_even_where_there_are_few_others():
    positive = np.array([7, 8])
    training = one_positive_each(np.array([0, 1]), positive, np.array([[8], [7]]), np.array([7, 8]))
    groups = Groups(hard=0, random=3, hard_depth=1, queries_per_step=2)
    for queries, documents, *_ in taken(training, 30, groups=groups):
        assert (documents[:, 1:] != positive[queries[:, 0]][:, None]).all()


@pytest.fixture
def graded():
    """Two queries, of which the first has three relevant documents, and a teacher."""
    queries, positive = np.array([0, 0, 0, 1]), np.array([10, 11, 12, 13])
    hard = np.array([[20, 21, -1]] * 3 + [[22, 23, 24]])
    scores = np.where(hard < 0, np.nan, hard / 10)
    relevant, documents = np.sort(random_keys(queries, positive)), np.array([10, 11, 12, 13, 30])
    return TrainingQueries(queries, positive, np.array([3, 1, 2, 1]), hard, relevant, documents, positive / 10, scores)


def test_what_is_relevant_to_queries_is_all_that_was_judged_so(graded):
    assert graded.relevant_to(np.array([0])).tolist() == [10, 11, 12]
    assert graded.of(np.array([1, 3])).relevant_to(np.array([0, 1])).tolist() == [10, 11, 12, 13]


def test_no_other_relevant_document_of_a_query_is_its_negative(graded):
    groups = Groups(hard=2, random=3, hard_depth=3, queries_per_step=4)
    for queries, documents, relevance, _ in taken(graded, 50, groups=groups):
        for query, group, grades in zip(queries[:, 0], documents, relevance, strict=True):
            relevant = {10, 11, 12} if query == 0 else {13}
            assert group[0] in relevant
            assert not relevant & set(group[1:])
            assert grades[0] == {10: 3, 11: 1, 12: 2, 13: 1}[group[0]]
            assert not grades[1:].any()


def test_a_query_with_fewer_hard_negatives_uses_those_it_has(graded):
    groups = Groups(hard=2, random=0, hard_depth=3, queries_per_step=4)
    for queries, documents, *_ in taken(graded, 50, groups=groups):
        assert (documents >= 0).all()
        assert all(
            set(group[1:]) == {20, 21} for query, group in zip(queries[:, 0], documents, strict=True) if query == 0
        )


def test_a_teachers_scores_stand_beside_its_documents(graded):
    groups = Groups(hard=2, random=0, hard_depth=3, queries_per_step=4)
    for _, documents, _, teacher in taken(graded, 20, groups=groups):
        np.testing.assert_allclose(teacher, documents / 10, rtol=1e-6)


def test_saved_items_are_read_memory_mapped(graded, training, tmp_path):
    for number, items in enumerate((graded, training)):
        (tmp_path / str(number)).mkdir()
        items.save(tmp_path / str(number))
        again = TrainingQueries.load(tmp_path / str(number))
        assert isinstance(again.hard_rows, np.memmap)
        assert (again.hard_teacher is None) == (items.hard_teacher is None)
        np.testing.assert_array_equal(again.hard_rows, items.hard_rows)
