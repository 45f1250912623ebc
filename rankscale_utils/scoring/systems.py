"""What is timed: each family of rerankers and each way of computing it, scoring one query's documents in one batch.

Rows are those of a collection's queries and documents. A system computes its family's own scores, so what is timed is
what was measured.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import bm25s
import numpy as np
import torch
from torch import Tensor, nn

from rankscale_utils.collections.singles import Singles, singles
from rankscale_utils.collections.tokens import Pairs
from rankscale_utils.collections.words import words_of
from rankscale_utils.models.bi_encoder import BiEncoder, bi_encoder_flops
from rankscale_utils.models.counts import parameters, pass_flops
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.ed2lm import Ed2lm
from rankscale_utils.models.ed2lm_counts import Work, decoder_flops, full_flops
from rankscale_utils.models.export import Model
from rankscale_utils.study.evaluation import FirstStage, Text

from .decoder import DecoderScorer
from .document_states import Content, DocumentStates, Precision, encode_collection
from .embeddings import embed
from .packed import bf16_pays, in_bf16, in_int8, is_wide, pack


@dataclass(frozen=True)
class System:
    """A way to score documents.

    score(query_row, document_rows): raw scores (documents,), float32 in the host's memory. flops_per_pair(query,
    document, documents): forward operations of a pair at serving, where `documents` are scored for the query; query and
    document are tokens before special ones and truncation, and what is stored costs nothing. bytes_per_document: what
    is stored of a document; 0 where its text is read. as_evaluated: whether it ranks as evaluation does, which pools no
    states and rounds no weights.
    """

    name: str
    family: str
    rung: str
    dtype: torch.dtype
    params_non_embedding: int
    bytes_per_document: float
    score: Callable[[int, np.ndarray], np.ndarray]
    flops_per_pair: Callable[[int, int, int], float]
    as_evaluated: bool = True


def systems_of(
    model: Model, pairs: Pairs, text: Text, held: np.ndarray, folder: Path, rung: str, kind: str
) -> list[System]:
    """Return every way to score with a model; in smaller numbers where its layers are wide enough to gain by that.

    text: where queries and documents are cut. held: the document rows that systems store, ascending. folder: where
    document states are stored. kind: the score of an ED2LM, one of `ed2lm.SCORES`.
    """
    if isinstance(model, CrossEncoder):
        exact = _device(model).type == "cpu" and _dtype(model) == torch.float32
        kinds = [name for name, pays in (("int8", exact and is_wide(model)), ("bf16", bf16_pays(model))) if pays]
        rounded = [cross_encoder_systems(model, pairs, rung, kind) for kind in kinds]  # before the layers are packed
        return [cross_encoder_systems(model, pairs, rung), *rounded]
    if isinstance(model, BiEncoder):
        return [bi_encoder_systems(model, *singles(pairs, text), held, rung)]
    return ed2lm_systems(model, *singles(pairs, text, "ed2lm"), held, folder, rung, kind)


def cross_encoder_systems(
    model: CrossEncoder, pairs: Pairs, rung: str = "", rounded: Literal["int8", "bf16"] | None = None
) -> System:
    """Return the system that reads query and document together: a copy in smaller numbers, or the model packed."""
    counted, size, name, dtype = pass_flops(model), parameters(model).non_embedding, "cross-encoder", _dtype(model)
    layout = pairs.tokenizer.layout
    if rounded is None:
        pack(model)
    else:
        in_numbers, dtype = {"int8": (in_int8, torch.qint8), "bf16": (in_bf16, torch.bfloat16)}[rounded]
        model, name = in_numbers(model), f"{name}, {rounded}"

    @torch.inference_mode()
    def score(query_row: int, document_rows: np.ndarray) -> np.ndarray:
        batch = pairs.batch(np.full(len(document_rows), query_row), document_rows)
        return _on_host(model(*batch))

    def cost(query: int, document: int, documents: int) -> float:
        length = np.minimum(query + document + layout.special, pairs.tokenizer.pair_tokens)
        if not model.shares_queries:
            return float(counted.forward(length, documents))
        shared = np.minimum(len(layout.before) + query + len(layout.between), length)
        return float(counted.forward(shared) / documents + counted.behind(shared, length))

    return System(name, "cross_encoder", rung, dtype, size, 0, score, cost, as_evaluated=rounded is None)


def bi_encoder_systems(
    model: BiEncoder, queries: Singles, documents: Singles, held: np.ndarray, rung: str = ""
) -> System:
    """Return the system that embeds the query and multiplies it with stored embeddings of documents.

    held: the document rows that are stored, ascending; no others can be scored.
    """
    counted, size = bi_encoder_flops(model), parameters(model).non_embedding
    device, dtype = _device(model), _dtype(model)
    pack(model.encoder)  # once, and not for every query
    stored = torch.from_numpy(embed(model, documents, held)).to(device)

    @torch.inference_mode()
    def score(query_row: int, document_rows: np.ndarray) -> np.ndarray:
        query = torch.from_numpy(embed(model, queries, np.array([query_row]), of_queries=True)[0]).to(device)
        return _on_host(stored[torch.from_numpy(_places(held, document_rows)).to(device)] @ query)

    def cost(query: int, document: int, documents: int) -> float:
        return float(counted.forward(queries.lengths_of(query))) / documents + 2 * stored.shape[1]

    return System("bi-encoder", "bi_encoder", rung, dtype, size, stored[0].nbytes, score, cost)


def ed2lm_systems(
    model: Ed2lm,
    queries: Singles,
    documents: Singles,
    held: np.ndarray,
    folder: Path,
    rung: str = "",
    kind: str = "true_false",
    precision: Precision = "float16",
) -> list[System]:
    """Return ED2LM in full, and over what is stored: document states, pooled as the model is trained for, or keys and
    values.

    queries are batches without special tokens, documents with an end token. held: the document rows that are stored
    under `folder` in that precision, ascending; only ED2LM in full scores others. Scores are those of training to 1e-5
    with a float32 store, and a smaller one rounds what they are computed from. kind: one of `ed2lm.SCORES`.

    Raises:
        Ed2lmError: documents are longer than the model is trained for, or it was never trained without pooling.
    """
    texts, size, dtype = documents.written(held), parameters(model).non_embedding, _dtype(model)

    def over_store(name: str, way: str, content: Content = "states", pooling: int = 1) -> System:
        store = encode_collection(model, texts, folder, precision, pooling, content)
        decoder, kept = DecoderScorer(model, way, dtype), store.manifest["bytes_per_document"]
        stored = Ed2lmOverStore(model, queries, documents, held, store, decoder, way, kind)
        return System(name, "ed2lm", rung, dtype, size, kept, stored.score, stored.cost, as_evaluated=pooling == 1)

    pooled = [
        over_store(f"ED2LM, states pooled by {pooling}", "absorbed", pooling=pooling)
        for pooling in model.setting.poolings
        if pooling > 1
    ]
    return [
        ed2lm_in_full(model, queries, documents, rung, kind),
        over_store("ED2LM, states projected", "on_the_fly"),
        over_store("ED2LM, states", "absorbed"),
        *pooled,
        over_store("ED2LM, keys and values", "stored", "keys_values"),
    ]


@dataclass(frozen=True)
class Ed2lmOverStore:
    """ED2LM's decoder over what is stored of the documents in `held`, which it attends to in one `way`."""

    model: Ed2lm
    queries: Singles
    documents: Singles
    held: np.ndarray
    store: DocumentStates
    decoder: DecoderScorer
    way: str
    kind: str

    def score(self, query_row: int, document_rows: np.ndarray) -> np.ndarray:
        """Return a query's scores of documents: (documents,)."""
        device = _device(self.model)
        query = self.queries.batch(np.array([query_row])).input_ids[0].to(device)
        candidates = self.store.read(_places(self.held, document_rows), _dtype(self.model)).to(device)
        return _on_host(self.decoder.score(query, candidates, self.kind))

    def cost(self, query: int, document: int, documents: int) -> float:
        """Return the decoder's operations for a pair, as `System.flops_per_pair` does."""
        query, document = int(self.queries.lengths_of(query)), int(self.documents.lengths_of(document))
        work = Work(query, document, documents, self.store.manifest["pooling"], self.kind)
        return decoder_flops(self.model.t5.config, work, self.way)


def ed2lm_in_full(
    model: Ed2lm, queries: Singles, documents: Singles, rung: str = "", kind: str = "true_false"
) -> System:
    """Return the system that encodes every document and decodes the query after it, as in training."""
    whole, size = Ed2lmInFull(model, queries, documents, kind), parameters(model).non_embedding
    return System("ED2LM in full", "ed2lm", rung, _dtype(model), size, 0, whole.score, whole.cost)


@dataclass(frozen=True)
class Ed2lmInFull:
    """ED2LM with nothing stored."""

    model: Ed2lm
    queries: Singles
    documents: Singles
    kind: str

    @torch.inference_mode()
    def score(self, query_row: int, document_rows: np.ndarray) -> np.ndarray:
        """Return a query's scores of documents: (documents,)."""
        query, copies = self.queries.batch(np.array([query_row])), len(document_rows)
        asked = (part.expand(copies, -1).to(_device(self.model)) for part in query)
        return _on_host(self.model(*self.documents.batch(document_rows), *asked).scores(self.kind))

    def cost(self, query: int, document: int, documents: int) -> float:
        """Return the operations for a pair, as `System.flops_per_pair` does."""
        work = Work(int(self.queries.lengths_of(query)), int(self.documents.lengths_of(document)))
        return full_flops(self.model.t5.config, work)


def bm25_system(documents: Iterable[str], queries: Sequence[str], settings: FirstStage) -> System:
    """Return BM25 with an index of all documents, in the order of their rows; queries are split into words before.

    Scores are those of `first_stage.search`. bm25s scores the whole index and the documents asked for are taken out;
    counted is one addition a query token and document.
    """
    index = bm25s.BM25(method="lucene", k1=settings.k1, b=settings.b)
    index.index(words_of(documents, settings), show_progress=False)
    asked = [index.get_tokens_ids(words) for words in words_of(queries, settings)]

    def score(query_row: int, document_rows: np.ndarray) -> np.ndarray:
        return index.get_scores_from_ids(asked[query_row])[document_rows]

    kept = sum(index.scores[part].nbytes for part in ("data", "indices", "indptr")) / index.scores["num_docs"]
    return System("BM25", "bm25", "", torch.float32, 0, kept, score, lambda query, document, documents: float(query))


def _places(held: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return where document rows stand in the store. Raises ValueError where one is not held."""
    places = np.searchsorted(held, rows)
    if (held.take(places, mode="clip") != rows).any():
        raise ValueError("a document is not in the store: hold every row that is to be scored")
    return places


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _dtype(model: nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype


def _on_host(scores: Tensor) -> np.ndarray:
    return scores.float().cpu().numpy()
