import tracemalloc

import numpy as np
import pytest

from rankscale_utils.scoring.exact_search import block_sizes, search_exactly


def brute(queries, documents, depth):
    """Every score, sorted; equal ones in the documents' order."""
    scores = queries.astype(np.float32) @ documents.astype(np.float32).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return rows, np.take_along_axis(scores, rows, 1)


@pytest.fixture
def embeddings():
    """Whole numbers, whose products are exact however they are summed, with many equal scores."""
    rng = np.random.default_rng(0)
    return rng.integers(-3, 4, (37, 6)).astype(np.float32), rng.integers(-3, 4, (1000, 6)).astype(np.float32)


@pytest.mark.parametrize("memory", [3_000, 20_000, 10**6, 2**30])
@pytest.mark.parametrize("depth", [1, 10, 1000, 5000])
def test_search_is_what_sorting_every_score_finds(embeddings, depth, memory):
    queries, documents = embeddings
    rows, scores = search_exactly(queries, documents, depth, memory + 32 * depth)
    expected = brute(queries, documents, depth)
    assert np.array_equal(rows, expected[0])
    assert np.array_equal(scores, expected[1])
    assert (rows.dtype, scores.dtype) == (np.int64, np.float32)


def test_scores_of_any_size_and_sign_keep_their_bits():
    rng = np.random.default_rng(1)
    documents = (rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500)).astype(np.float32)[:, None]
    documents[:4, 0] = [0.0, -0.0, 0.0, -0.0]
    rows, scores = search_exactly(np.ones((1, 1)), documents, 500)
    assert np.array_equal(scores[0], np.sort(documents[:, 0])[::-1])
    zeros = rows[0][scores[0] == 0]
    assert zeros.tolist() == [0, 1, 2, 3]  # minus nought equals nought


def test_a_memory_mapped_matrix_of_halves_is_read_in_blocks_within_the_budget(tmp_path):
    rng = np.random.default_rng(2)
    documents = np.lib.format.open_memmap(tmp_path / "d.npy", "w+", np.float16, (40_000, 32))
    documents[:] = rng.normal(size=documents.shape)
    documents.flush()
    documents = np.load(tmp_path / "d.npy", mmap_mode="r")
    queries = rng.normal(size=(50, 32)).astype(np.float32)
    budget = 2**20  # the documents take 5 MB as floats, their scores 8
    tracemalloc.start()
    rows, scores = search_exactly(queries, documents, 20, budget)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < budget
    expected = brute(queries, documents, 20)
    assert np.array_equal(rows, expected[0])
    assert scores == pytest.approx(expected[1], abs=1e-4)


def test_the_blocks_fill_the_budget_and_no_more():
    for memory in (10**5, 10**6, 10**8):
        queries, documents = block_sizes(6980, 8_841_823, 768, 1000, memory)
        assert 1 <= queries <= 6980
        assert documents >= 1
    assert block_sizes(6980, 8_841_823, 768, 1000, 2**30)[0] == 6980  # one pass over the documents
    assert block_sizes(10, 100, 8, 5, 2**30) == (10, 100)


def test_without_queries_or_documents_there_is_nothing_to_find():
    rows, scores = search_exactly(np.ones((0, 3)), np.ones((5, 3)), 2)
    assert rows.shape == scores.shape == (0, 2)
    rows, _ = search_exactly(np.ones((2, 3)), np.ones((0, 3)), 2)
    assert rows.shape == (2, 0)


@pytest.mark.parametrize(
    ("queries", "documents", "depth", "memory", "said"),
    [
        (np.ones((2, 3)), np.ones((5, 4)), 2, 10**6, "queries have 3 dimensions and documents 4"),
        (np.ones((2, 3)), np.ones((5, 3)), 0, 10**6, "depth is 0"),
        (np.ones((2, 3)), np.full((5, 3), np.nan), 1, 10**6, "scores of documents 0 to 4 are not finite"),
        (np.ones((2, 3)), np.ones((5, 3)), 1, 50, "memory is 50 bytes, below the 72"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(queries, documents, depth, memory, said):
    with pytest.raises(ValueError, match=said):
        search_exactly(queries, documents, depth, memory)
