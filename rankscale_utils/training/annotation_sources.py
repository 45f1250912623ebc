"""Writing the pairs of every source of annotations: the collection's own, and queries that no person wrote.

A source's texts are tokenised once into a folder of the cache: its queries and, where it changes them, its documents.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.collections import Collection
from rankscale_utils.collections.annotation import inverse_cloze, nested_order, read_generated
from rankscale_utils.collections.groups import TrainingQueries, random_keys, split
from rankscale_utils.collections.materialise import stored_texts
from rankscale_utils.collections.tokens import StudyTokenizer, Texts
from rankscale_utils.machine.files import cached_folder, write_json
from rankscale_utils.study.study import Study

from .annotated_pairs import dev_and_rest, source_folder
from .query_generator import generated_queries

GENERATED = "generated"  # the source whose queries our own generator writes
SPARE = 2  # documents without a sentence that asks for the others make no pair: so many more are read
SPOKEN = 0.95  # share of documents, at least, of which a generator writes more than nothing
TAUGHT = 0.3  # share of the training queries that teach the generator


def build_source(study: Study, source: str, collection: Collection) -> Path:
    """Return the folder of a source's pairs, building it where the cache lacks it.

    Raises:
        StudyError: a source has fewer pairs than the study asks for, or its file cannot be used.
    """
    folder = source_folder(study, source, collection)
    return cached_folder(folder, lambda inside: _build(inside, study, source, collection))


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
    Texts.write(folder, "queries", tokenizer, tokenizer.queries(pairs["query"]), study.text.longest_query)
    rows = pairs.index.to_numpy(np.int64)
    positives, own = rows, ["queries"]
    if "text" in pairs:  # the documents that are read are not the collection's
        base = collection.pairs().documents
        positives, own = len(base.starts) - 1 + np.arange(len(pairs)), ["queries", "documents"]
        Texts.write(folder, "documents", tokenizer, tokenizer.documents(pairs["text"]), study.text.pair_tokens)
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
