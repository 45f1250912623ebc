"""How finished models score a study's texts, which each of them reads with its own tokenizer and its own limits."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from rankscale_utils.collections import Collection
from rankscale_utils.collections.materialise import stored_texts
from rankscale_utils.collections.singles import Singles
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.models.published import Published

from .embeddings import embed
from .pairs import score_pairs
from .systems import System, bi_encoder_systems, cross_encoder_systems


def own_pairs(published: Published, collection: Collection, query_rows: np.ndarray, document_rows: np.ndarray) -> Pairs:
    """Return a collection's texts as a model reads them, under the collection's rows; those of other rows are empty."""
    tokenizer = StudyTokenizer(
        published.tokenizer, published.special, published.pair_tokens, segments=published.segments
    )
    queries, documents = collection.queries()["text"], stored_texts(collection.texts / "documents.parquet")
    parts = zip((queries, documents), (query_rows, document_rows), published.prompts, strict=True)
    return Pairs(*(_read(tokenizer, *part) for part in parts), tokenizer)


def _read(tokenizer: StudyTokenizer, texts: Iterable[str], rows: np.ndarray, prompt: str) -> Texts:
    wanted, lengths, chosen = set(rows.tolist()), [], []
    for row, text in enumerate(texts):
        lengths.append(row in wanted)
        if row in wanted:
            chosen.append(prompt + text)
    read, lengths = Texts.encoded(tokenizer, chosen, tokenizer.pair_tokens), np.array(lengths, np.int64)
    lengths[lengths > 0] = np.diff(read.starts)
    return Texts(read.ids, np.concatenate([[0], np.cumsum(lengths)]))


def own_singles(published: Published, pairs: Pairs) -> tuple[Singles, Singles]:
    """Return the makers of batches of queries and of documents, each as long as a bi-encoder reads it."""
    parts = zip((pairs.queries, pairs.documents), published.apart, strict=True)
    return tuple(Singles(texts, pairs.tokenizer, tokens) for texts, tokens in parts)


def score_published(
    published: Published, pairs: Pairs, query_rows: np.ndarray, document_rows: np.ndarray
) -> np.ndarray:
    """Return a model's scores of pairs of rows: a reranker's logits, a bi-encoder's products, (pairs,) float32."""
    if not isinstance(published.model, BiEncoder):
        return score_pairs(published.model, pairs, query_rows, document_rows)
    queries, documents = own_singles(published, pairs)
    asked, asked_at = np.unique(query_rows, return_inverse=True)
    scored, scored_at = np.unique(document_rows, return_inverse=True)
    of_queries = embed(published.model, queries, asked, of_queries=True)
    of_documents = embed(published.model, documents, scored)
    return np.einsum("pd,pd->p", of_queries[asked_at], of_documents[scored_at])


def cut_share(published: Published, pairs: Pairs, query_rows: np.ndarray, document_rows: np.ndarray) -> float:
    """Return the share of pairs of which a model does not read everything."""
    query, document = pairs.queries.lengths(query_rows), pairs.documents.lengths(document_rows)
    layout = pairs.tokenizer.layout
    if not isinstance(published.model, BiEncoder):
        return float(np.mean(query + document + layout.special > published.pair_tokens))
    longest_query, longest_document = (tokens - sum(map(len, layout.alone)) for tokens in published.apart)
    return float(np.mean((query > longest_query) | (document > longest_document)))


def published_system(published: Published, name: str, pairs: Pairs, held: np.ndarray) -> System:
    """Return the model as a system that is timed, under its own name; held: the document rows that it may store."""
    if isinstance(published.model, BiEncoder):
        system = bi_encoder_systems(published.model, *own_singles(published, pairs), held)
    else:
        system = cross_encoder_systems(published.model, pairs)
    return replace(system, name=name)
