"""What a run on annotated pairs is trained on: a source's pairs, of which it sees a nested subset, and a dev part."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rankscale_utils.collections import Collection, annotation
from rankscale_utils.collections.groups import TrainingQueries, split
from rankscale_utils.collections.singles import singles
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contrastive_entropy import contrastive_entropy, draw_pool
from rankscale_utils.machine.files import digest, read_json
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.scoring.embeddings import embed
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study

CODE = [Path(__file__).with_name(f"{name}.py") for name in ("annotated_pairs", "annotation_sources", "query_generator")]
DEV_POOL = 2000  # random documents that the dev part's negatives are drawn from
DEV_PAIRS = 500  # at most, which tell where a run ends: of as many queries, or of a tenth where that is fewer


@dataclass(frozen=True)
class Annotated(Collection):
    """A collection of whose training pairs a source annotated `count`."""

    source: Path
    count: int

    def pairs(self) -> Pairs:
        """The maker of batches over the source's queries and documents."""
        own = read_json(self.source / "manifest.json")["own"]
        texts = (Texts.load(self.source if name in own else self.tokens, name) for name in ("queries", "documents"))
        return Pairs(*texts, StudyTokenizer.load(self.tokens))

    def training_queries(self) -> TrainingQueries:
        """The source's first `count` pairs; larger subsets hold all of smaller ones."""
        everything = TrainingQueries.load(self.source)
        return everything.of(np.arange(self.count))


def annotated(study: Study, run: Run, collection: Collection) -> Collection:
    """Return what a run is trained on: the collection itself, or a source's pairs of its documents.

    Raises:
        StudyError: the source's pairs have not been written.
    """
    if not run.source:
        return collection
    folder = source_folder(study, run.source, collection)
    if not folder.exists():
        raise StudyError(
            f"run {run.name}: the pairs of {run.source} have not been prepared: run `make study STUDY={study.name}`, "
            "which prepares them first."
        )
    return Annotated(collection.texts, collection.candidates, collection.tokens, folder, run.annotations)


def source_folder(study: Study, source: str, collection: Collection) -> Path:
    """Return where the cache has the pairs of a source, once they are written."""
    made_of = [*CODE, Path(annotation.__file__), source, study.annotated_by(source)]
    made_of += [collection.candidates.name, collection.tokens.name]
    return paths.cache_folder() / f"annotated-{digest(*made_of, length=16)}"


def dev_and_rest(collection: Collection) -> tuple[TrainingQueries, TrainingQueries]:
    """Return the items that tell where a run ends, and all items of other queries."""
    dev, rest = split(collection.training_queries(), 1, DEV_PAIRS)
    few = np.random.default_rng(0).permutation(len(dev.query_rows))[:DEV_PAIRS]  # a query may have many judgments
    return dev.of(np.sort(few)), rest


class Dev:
    """Training pairs that no run on annotated pairs sees, and a pool of documents for their negatives."""

    def __init__(self, study: Study, collection: Collection) -> None:
        """Take the dev part of the collection's own training pairs."""
        whole = Collection(collection.texts, collection.candidates, collection.tokens)
        self.queries, self.documents = singles(whole.pairs(), study.text)
        self.items, _ = dev_and_rest(whole)
        relevant = self.items.relevant_to(self.items.query_rows)
        pool = draw_pool(self.items.document_rows, relevant, max(DEV_POOL, study.evaluation.negatives))
        self.pool, self.negatives = pool, study.evaluation.negatives

    def entropy(self, model: BiEncoder) -> float:
        """Return the mean contrastive entropy of the dev part in nats."""
        model.eval()
        queries = embed(model, self.queries, self.items.query_rows, of_queries=True)
        positives, pool = (embed(model, self.documents, rows) for rows in (self.items.positive_rows, self.pool))
        model.train()
        return float(contrastive_entropy(queries, positives, pool, self.negatives).mean())
