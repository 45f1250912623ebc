"""Training groups: which documents stand beside each training query at each step of a run."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rankscale_utils.parts import Groups


@dataclass(frozen=True)
class TrainingQueries:
    """The training queries as rows of the token store.

    query_rows: (queries,); positive_rows: (queries,); hard_rows: (queries, hard_depth), BM25's top documents without
    the relevant one; document_rows: (documents,), the training documents that random negatives come from.
    """

    query_rows: np.ndarray
    positive_rows: np.ndarray
    hard_rows: np.ndarray
    document_rows: np.ndarray


def steps(
    training: TrainingQueries, groups: Groups, seed: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (query rows, document rows), each (queries, group), of step `start`, `start` + 1, … without end.

    The relevant document stands first. Queries come in a fresh order every epoch, and every step depends on nothing
    but the seed and its own number, so a run resumes anywhere. A last, smaller step of an epoch is dropped.
    """
    per_epoch = len(training.query_rows) // groups.queries_per_step
    epoch, order = -1, np.empty(0, int)
    step = start
    while True:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.random.default_rng([seed, epoch]).permutation(len(training.query_rows))
        place = step % per_epoch * groups.queries_per_step
        chosen = order[place : place + groups.queries_per_step]
        yield _groups(training, groups, chosen, np.random.default_rng([seed, 1 << 32, step]))
        step += 1


def _groups(
    training: TrainingQueries, groups: Groups, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    places = rng.random((len(chosen), training.hard_rows.shape[1])).argsort(1)[:, : groups.hard]  # without repetition
    hard = np.take_along_axis(training.hard_rows[chosen], places, 1)
    positive = training.positive_rows[chosen][:, None]
    places = rng.integers(len(training.document_rows), size=(len(chosen), groups.random))
    random = training.document_rows[places]
    random = np.where(random == positive, training.document_rows[places - 1], random)  # never the relevant one
    documents = np.concatenate([positive, hard, random], 1)
    return training.query_rows[chosen][:, None].repeat(groups.size, 1), documents
