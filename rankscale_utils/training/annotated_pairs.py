"""What a run on annotated pairs is trained on: a source's pairs, of which it sees a nested subset, and a dev part.

A source's texts are tokenised once into a folder of the cache: its queries and, where it changes them, its documents.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.collections import Collection, annotation
from rankscale_utils.collections.annotation import inverse_cloze, nested_order, read_generated
from rankscale_utils.collections.groups import TrainingQueries, random_keys, split
from rankscale_utils.collections.materialise import stored_texts
from rankscale_utils.collections.singles import singles
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.evaluation.contrastive_entropy import contrastive_entropy, draw_pool
from rankscale_utils.machine.files import cached_folder, digest, read_json, write_json
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.scoring.embeddings import embed
from rankscale_utils.study import paths
from rankscale_utils.study.study import Run, Study

from . import query_generator
from .query_generator import generated_queries

GENERATED = "generated"  # the source whose queries our own generator writes
DEV_POOL = 2000  # random documents that the dev part's negatives are drawn from
DEV_PAIRS = 500  # at most, which tell where a run ends: of as many queries, or of a tenth where that is fewer
SPARE = 2  # documents without a sentence that asks for the others make no pair: so many more are read
SPOKEN = 0.95  # share of documents, at least, of which a generator writes more than nothing
TAUGHT = 0.3  # share of the training queries that teach the generator


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
        StudyError: a source has fewer pairs than the study asks for, or its file cannot be used.
    """
    if not run.source:
        return collection
    folders = (collection.texts, collection.candidates, collection.tokens)
    return Annotated(*folders, source_folder(study, run.source, collection), run.annotations)


def source_folder(study: Study, source: str, collection: Collection) -> Path:
    """Return the folder of a source's pairs, building it where the cache lacks it."""
    code = [Path(__file__), Path(annotation.__file__), Path(query_generator.__file__)]
    made_of = [*code, source, study.annotated_by(source)]
    made_of += [collection.candidates.name, collection.tokens.name]
    folder = paths.cache_folder() / f"annotated-{digest(*made_of, length=16)}"
    return cached_folder(folder, lambda inside: _build(inside, study, source, collection))


def dev_and_rest(collection: Collection) -> tuple[TrainingQueries, TrainingQueries]:
    """Return the items that tell where a run ends, and all items of other queries."""
    dev, rest = split(collection.training_queries(), 1, DEV_PAIRS)
    few = np.random.default_rng(0).permutation(len(dev.query_rows))[:DEV_PAIRS]  # a query may have many judgments
    return dev.of(np.sort(few)), rest


def _build(folder: Path, study: Study, source: str, collection: Collection) -> None:
    dev, rest = dev_and_rest(collection)
    if source == "human":
        _human(folder, study, collection, rest)
    else:
        _queries_of_documents(folder, study, source, collection, dev, rest)


def _human(folder: Path, study: Study, collection: Collection, rest: TrainingQueries) -> None:
    """Write the collection's own pairs in the order in which subsets grow."""
    ids = pd.DataFrame({"query_id": collection.queries()["query_id"].to_numpy()[rest.query_rows]})
    ids["document_id"] = collection.document_ids()["document_id"].to_numpy()[rest.positive_rows]
    rest.of(nested_order(ids, study.annotations.counts)).save(folder)
    write_json(folder / "manifest.json", {"own": [], "pairs": len(ids)})


def _queries_of_documents(
    folder: Path, study: Study, source: str, collection: Collection, dev: TrainingQueries, rest: TrainingQueries
) -> None:
    """Write the pairs of a source that asks queries of documents; the dev part's documents are none of them."""
    makers = {"inverse_cloze": _inverse_cloze, GENERATED: _generated}
    pairs = makers.get(source, partial(_of_file, source))(study, collection, dev, rest)
    pairs = pairs.iloc[nested_order(pairs, study.annotations.counts[:-1])]
    tokenizer = StudyTokenizer.load(collection.tokens)
    Texts.write(folder, "queries", tokenizer, pairs["query"], study.text.longest_query)
    rows = pairs.index.to_numpy(np.int64)
    positives, own = rows, ["queries"]
    if "text" in pairs:  # the documents that are read are not the collection's
        base = collection.pairs().documents
        positives, own = len(base.starts) - 1 + np.arange(len(pairs)), ["queries", "documents"]
        Texts.write(folder, "documents", tokenizer, pairs["text"], study.text.pair_tokens)
        Texts.join(folder, "documents", base)
    numbers = np.arange(len(pairs))
    TrainingQueries(
        query_rows=numbers.astype(np.int32),
        positive_rows=positives.astype(np.int32),
        grades=np.ones(len(pairs), np.int16),
        hard_rows=np.full((len(pairs), 1), -1, np.int32),
        relevant=np.sort(np.concatenate([random_keys(numbers, rows), random_keys(numbers, positives)])),
        document_rows=np.asarray(rest.document_rows),
    ).save(folder)
    pairs[["document_id", "query"]].to_parquet(folder / "pairs.parquet", index=False)
    write_json(folder / "manifest.json", {"own": own, "pairs": len(pairs)})


def _inverse_cloze(study: Study, collection: Collection, dev: TrainingQueries, rest: TrainingQueries) -> pd.DataFrame:
    """Return document_id, query and text, by row of the document: sentences that ask for the others."""
    wanted = int(SPARE * study.annotations.counts[-2])
    documents = _documents(collection, np.setdiff1d(rest.document_rows, dev.positive_rows), wanted)
    pairs = inverse_cloze(documents)
    return pairs.set_index(documents.index[documents["document_id"].isin(pairs["document_id"])])


def _generated(study: Study, collection: Collection, dev: TrainingQueries, rest: TrainingQueries) -> pd.DataFrame:
    """Return document_id and query, by row of the document: what a generator wrote, of documents it never learned."""
    teaching, _ = split(rest, 1, len(rest.query_rows), TAUGHT)
    free = np.setdiff1d(rest.document_rows, np.concatenate([dev.positive_rows, teaching.positive_rows]))
    documents = _documents(collection, free, int(study.annotations.counts[-2] / SPOKEN))
    queries = generated_queries(study, collection, teaching, documents.index.to_numpy())
    pairs = documents.drop(columns="text").assign(query=queries)
    return pairs[pairs["query"].str.strip() != ""]


def _of_file(
    source: str, study: Study, collection: Collection, dev: TrainingQueries, rest: TrainingQueries
) -> pd.DataFrame:
    """Return document_id and query, by row of the document: what a user's language model wrote."""
    ids = collection.document_ids()
    ids = ids[ids["corpus"] == ids["corpus"].iloc[0]]  # training documents come first
    pairs = read_generated(study.beside(study.annotations.files[source]), ids)
    pairs = pairs.set_index(ids.reset_index().set_index("document_id")["index"].loc[pairs["document_id"]].to_numpy())
    return pairs[~pairs.index.isin(dev.positive_rows)]


def _documents(collection: Collection, rows: np.ndarray, wanted: int) -> pd.DataFrame:
    """Return document_id and text by row, of a sample of these rows where there are more than wanted."""
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:wanted])
    chosen = set(rows.tolist())
    texts = [text for row, text in enumerate(stored_texts(collection.texts / "documents.parquet")) if row in chosen]
    return pd.DataFrame({"document_id": collection.document_ids()["document_id"].to_numpy()[rows], "text": texts}, rows)


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
