"""Contrastive entropy as arXiv 2403.18684 (§3.3) defines it: the training loss on held-out pairs, made comparable.

Every held-out pair meets 256 negatives from a large pool of random documents that is encoded once a checkpoint; the
mean over repeated draws is the pair's entropy in nats. The published code draws ten times without replacement from a
pool of a million documents, none of them relevant to any held-out query; so does this.
"""

import numpy as np
from numpy.typing import NDArray

from rankscale_utils.errors import StudyError

NEGATIVES, REPEATS = 256, 10
PAIRS = 64  # that are scored together: their negatives' embeddings take 50 MB at 768 dimensions


def draw_pool(document_rows: NDArray, relevant_rows: NDArray, size: int, seed: int = 0) -> NDArray:
    """Return the rows (≤ size,) of the documents that negatives come from, in order: random, none of them relevant.

    document_rows: the collection's; relevant_rows: the documents relevant to any held-out query.
    """
    others = np.setdiff1d(document_rows, relevant_rows)
    return np.sort(np.random.default_rng(seed).permutation(others)[:size])


def contrastive_entropy(
    queries: NDArray,
    positives: NDArray,
    pool: NDArray,
    negatives: int = NEGATIVES,
    repeats: int = REPEATS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Return the contrastive entropy (pairs,) of each held-out pair in nats.

    −log softmax of the positive's inner product among itself and `negatives` documents of the pool, drawn without
    replacement for every pair anew, the mean over `repeats` draws. queries, positives: (pairs, dimensions); pool:
    (pool, dimensions), which may be memory-mapped. The draws depend on the seed and a pair's place alone, so that all
    checkpoints meet the same negatives.

    Raises:
        StudyError: the pool is smaller than the negatives asked for, or the dimensions differ.
    """
    if len(pool) < negatives:
        raise StudyError(
            f"the pool has {len(pool)} documents, fewer than the {negatives} negatives asked for: "
            "enlarge the pool or ask for fewer."
        )
    widths = {array.shape[1] for array in (queries, positives, pool)}
    if len(widths) > 1:
        raise StudyError(f"embeddings have {sorted(widths)} dimensions: give every rung and text one projection.")
    rng = np.random.default_rng(seed)
    entropies = [
        _of_pairs(queries[first : first + PAIRS], positives[first : first + PAIRS], pool, negatives, repeats, rng)
        for first in range(0, len(queries), PAIRS)
    ]
    return np.concatenate(entropies) if entropies else np.empty(0)


def _of_pairs(
    queries: NDArray, positives: NDArray, pool: NDArray, negatives: int, repeats: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Entropies (pairs,) of a few pairs."""
    drawn = [[rng.choice(len(pool), negatives, replace=False, shuffle=False) for _ in range(repeats)] for _ in queries]
    own = np.einsum("pd,pd->p", queries, positives).astype(float)
    total = np.zeros(len(queries))
    for rows in np.array(drawn).swapaxes(0, 1):  # one repeat's (pairs, negatives)
        others = (pool[rows] @ queries[:, :, None])[..., 0].astype(float)
        total += np.logaddexp(own, np.logaddexp.reduce(others, axis=1)) - own
    return total / repeats
