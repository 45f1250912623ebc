"""Training groups: which documents stand beside each relevant one at each step of a run."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rankscale_utils.study.training import Groups

DEV_QUERIES = 256  # held out of a sweep's training, or a tenth of the queries where that is fewer


class Step(NamedTuple):
    """One step's groups; every array is (queries, group), and the relevant document stands first."""

    query_rows: np.ndarray
    document_rows: np.ndarray
    relevance: np.ndarray  # float32: the judgment's grade, and 0 for negatives
    teacher: np.ndarray | None  # float32: a teacher's raw scores, where the collection has one

    def of(self, queries: slice) -> "Step":
        """Return the groups of these queries."""
        return Step(*(array if array is None else array[queries] for array in self))


@dataclass(frozen=True)
class TrainingQueries:
    """What is trained on, as rows of the token store: an item for every judgment of a query's relevant document.

    query_rows, positive_rows, grades: (items,). hard_rows: (items, ranks), the first stage's top documents without any
    that is relevant to the query, −1 where there are no more of them. relevant: (judgments,), sorted, a key for
    every relevant pair, see `keys`. document_rows: (documents,), the sample that random negatives come from.
    positive_teacher (items,) and hard_teacher (items, ranks): a teacher's scores, where there is one.
    """

    query_rows: np.ndarray
    positive_rows: np.ndarray
    grades: np.ndarray
    hard_rows: np.ndarray
    relevant: np.ndarray
    document_rows: np.ndarray
    positive_teacher: np.ndarray | None = None
    hard_teacher: np.ndarray | None = None

    def save(self, folder: Path) -> None:
        """Write every array as an .npy file."""
        for part in fields(self):
            if (array := getattr(self, part.name)) is not None:
                np.save(folder / f"train_{part.name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> "TrainingQueries":
        """Open the arrays memory-mapped."""
        paths = {part.name: folder / f"train_{part.name}.npy" for part in fields(cls)}
        return cls(**{name: np.load(path, mmap_mode="r") for name, path in paths.items() if path.exists()})

    def of(self, chosen: np.ndarray) -> "TrainingQueries":
        """Return the items at these places, or those that a mask marks."""
        names = ("query_rows", "positive_rows", "grades", "hard_rows", "positive_teacher", "hard_teacher")
        arrays = {name: getattr(self, name) for name in names}
        return replace(self, **{name: array[chosen] for name, array in arrays.items() if array is not None})

    def is_relevant(self, query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
        """Return whether documents are relevant to queries; the arrays' shapes are broadcast."""
        wanted = random_keys(query_rows, document_rows)
        places = np.searchsorted(self.relevant, wanted)
        return self.relevant[np.minimum(places, len(self.relevant) - 1)] == wanted

    def relevant_to(self, query_rows: np.ndarray) -> np.ndarray:
        """Return the rows of the documents that are relevant to any of these queries."""
        return np.unique(self.relevant[np.isin(self.relevant >> 32, query_rows)] & 0xFFFFFFFF)


def random_keys(query_rows: np.ndarray, document_rows: np.ndarray) -> np.ndarray:
    """Return one number for a pair of rows."""
    return np.asarray(query_rows, np.int64) << 32 | np.asarray(document_rows, np.int64)


def training_steps(training: TrainingQueries, groups: Groups, seed: int, start: int = 0) -> Iterator[Step]:
    """Yield the groups of step `start`, `start` + 1, … without end.

    Items come in a fresh order every epoch, and every step depends on nothing but the seed and its own number, so a run
    resumes anywhere. A last, smaller step of an epoch is dropped.
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


def _groups(training: TrainingQueries, groups: Groups, chosen: np.ndarray, rng: np.random.Generator) -> Step:
    available = training.hard_rows[chosen]
    order = rng.random(available.shape)
    order[available < 0] = 1  # after every document that is there
    places = order.argsort(1)[:, : groups.hard]  # without repetition
    queries, positive = training.query_rows[chosen][:, None], training.positive_rows[chosen][:, None]
    random = _random(training, queries, rng.integers(len(training.document_rows), size=(len(chosen), groups.random)))
    documents = np.concatenate([positive, np.take_along_axis(available, places, 1), random], 1)
    relevance = np.zeros(documents.shape, np.float32)
    relevance[:, 0] = training.grades[chosen]
    teacher = None
    if training.hard_teacher is not None:
        hard = np.take_along_axis(training.hard_teacher[chosen], places, 1)
        teacher = np.concatenate([training.positive_teacher[chosen][:, None], hard], 1)
    return Step(queries.repeat(groups.size, 1), documents, relevance, teacher)


def _random(training: TrainingQueries, queries: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the documents at these places, or the nearest before them that is not relevant."""
    while (relevant := training.is_relevant(queries, training.document_rows[places])).any():
        places = places - relevant
    return training.document_rows[places]


def split(
    training: TrainingQueries, least: int, most: int = DEV_QUERIES, share: float = 0.1
) -> tuple[TrainingQueries, TrainingQueries]:
    """Return the items of a share of the queries, `least` to `most` of them, and those of all others."""
    queries = np.unique(training.query_rows)
    count = max(least, min(most, int(share * len(queries))))
    dev = np.isin(training.query_rows, np.random.default_rng(0).permutation(queries)[:count])
    return training.of(dev), training.of(~dev)
