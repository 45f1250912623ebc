"""How much of the texts the length limits drop, and the tokenizer does not know."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import write_json
from rankscale_utils.study.evaluation import Text

from .materialise import Rows, stored_texts
from .retrieval import Retrieved
from .tokens import StudyTokenizer, longest_first

UNKNOWN = "unknown"
TOGETHER, APART = "together", "apart"  # how a cross-encoder reads a pair, and how the other families do
SAMPLE = 2000  # pairs of a query and a document that are looked at


def write_cuts(
    folder: Path,
    texts: Path,
    tokenizer: StudyTokenizer,
    text: Text,
    training: Retrieved,
    tests: Mapping[str, Retrieved],
) -> None:
    """Write `cuts.json`: by test ('' is training) and by how pairs are read, the dropped share of either text's tokens.

    Under `unknown` stands the share of its letters that the tokenizer reads as unknown words.

    Shares are those of a sample of pairs: a test's candidates, and training's relevant documents. A query keeps
    `query_tokens`. Read together, the document keeps what is left of `pair_tokens` beside it and the special tokens,
    and without `query_tokens` the longer one gives way; read apart, what is left beside the longest query.
    """
    rows = Rows(texts)
    pairs = {"": (training, training.table("judgments"))}
    pairs |= {name: (test, test.table("candidates").query("retrieved")) for name, test in tests.items()}
    wanted = {name: _sampled(rows, name, found, table) for name, (found, table) in pairs.items()}
    queries = pd.read_parquet(texts / "queries.parquet", columns=["text"])["text"]
    told_of = set(np.concatenate([told for _, told in wanted.values()]).tolist())
    documents = {row: told for row, told in enumerate(stored_texts(texts / "documents.parquet")) if row in told_of}
    shares = {}
    for name, (asked, told) in wanted.items():
        counted = {
            "queries": tokenizer.counts(queries[asked].tolist(), tokenizer.prompts[0]),
            "documents": tokenizer.counts([documents[row] for row in told], tokenizer.prompts[1]),
        }
        query, document = (counts[:, 0] for counts in counted.values())
        room = tokenizer.pair_tokens - tokenizer.layout.special
        read = np.minimum(query, text.query_tokens) if text.query_tokens else longest_first(query, document, room)
        kept = {
            TOGETHER: (read, np.minimum(document, room - read)),
            APART: (np.minimum(query, text.longest_query), np.minimum(document, text.document_tokens)),
        }
        shares[name] = {
            way: {"queries": _dropped(query, of_query), "documents": _dropped(document, of_document)}
            for way, (of_query, of_document) in kept.items()
        }
        letters = {kind: counts[:, 1:].sum(0) for kind, counts in counted.items()}
        shares[name][UNKNOWN] = {kind: round(float(lost / max(1, every)), 4) for kind, (every, lost) in letters.items()}
    write_json(folder / "cuts.json", shares)


def _sampled(rows: Rows, name: str, found: Retrieved, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of queries and documents of evenly many pairs, those whose document has a text."""
    asked, told = rows.queries(name, table["query_id"]), rows.documents(found.source.corpus, table["document_id"])
    asked, told = asked[told >= 0], told[told >= 0]
    kept = np.unique(np.linspace(0, len(told) - 1, min(SAMPLE, len(told))).astype(int))
    return asked[kept], told[kept]


def _dropped(whole: np.ndarray, read: np.ndarray) -> float:
    return round(1 - float(read.sum()) / max(1, int(whole.sum())), 4)
