"""How much of the texts the length limits drop."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from rankscale_utils.machine.files import write_json
from rankscale_utils.study.evaluation import Text

from .materialise import Rows, stored_texts
from .retrieval import Retrieved
from .tokens import StudyTokenizer, longest_first

SAMPLE = 2000  # pairs of a query and a document that are looked at


def write_cuts(
    folder: Path,
    texts: Path,
    tokenizer: StudyTokenizer,
    text: Text,
    training: Retrieved,
    tests: Mapping[str, Retrieved],
) -> None:
    """Write `cuts.json`: by test ('' is training), the dropped share of the queries' and of the documents' tokens.

    Shares are those of a sample of pairs: a test's candidates, and training's relevant documents. A query keeps
    `query_tokens`, and the document what is left of `pair_tokens` beside it and the special tokens; without
    `query_tokens` the longer one gives way.
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
        query, document = (
            tokenizer.lengths(queries[asked].tolist()),
            tokenizer.lengths([documents[row] for row in told]),
        )
        room = tokenizer.pair_tokens - tokenizer.layout.special
        read = np.minimum(query, text.query_tokens) if text.query_tokens else longest_first(query, document, room)
        shares[name] = {
            "queries": _dropped(query, read),
            "documents": _dropped(document, np.minimum(document, room - read)),
        }
    write_json(folder / "cuts.json", shares)


def _sampled(rows: Rows, name: str, found: Retrieved, table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of queries and documents of evenly many pairs, those whose document has a text."""
    asked, told = rows.queries(name, table["query_id"]), rows.documents(found.source.corpus, table["document_id"])
    asked, told = asked[told >= 0], told[told >= 0]
    kept = np.unique(np.linspace(0, len(told) - 1, min(SAMPLE, len(told))).astype(int))
    return asked[kept], told[kept]


def _dropped(whole: np.ndarray, read: np.ndarray) -> float:
    return round(1 - float(read.sum()) / max(1, int(whole.sum())), 4)
