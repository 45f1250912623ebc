"""What the benchmarks share: real texts, shapes with random weights, sides that take turns, and the page of results."""

import ctypes
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from rankscale_utils.collections.docstrings import build_docstrings, chosen_packages
from rankscale_utils.collections.tokens import SPECIAL, Pairs, StudyTokenizer, Texts, train_tokenizer
from rankscale_utils.machine.device import hardware
from rankscale_utils.machine.memory import M_TRIM_THRESHOLD, keep_freed_memory

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("RANKSCALE_DATA", ROOT.parent / "shared" / "data"))
TREC_DL, YEARS = DATA / "trec_dl", ("dl19", "dl20")
PAGE = ROOT / "reports" / "benchmarks.md"
TOKENS = 512  # of the longest pair
VOCABULARY = 30_522
SHAPES = {  # layers, hidden size, feed-forward size, heads
    "MiniLM-L6": ("bert", 6, 384, 1536, 12),
    "BERT-base": ("bert", 12, 768, 3072, 12),
    "Ettin-17M": ("modernbert", 7, 256, 384, 4),
    "Ettin-32M": ("modernbert", 10, 384, 576, 6),
    "Ettin-68M": ("modernbert", 19, 512, 768, 8),
    "Ettin-150M": ("modernbert", 22, 768, 1152, 12),
    "Ettin-400M": ("modernbert", 28, 1024, 2624, 16),
    "Ettin-1B": ("modernbert", 28, 1792, 3840, 28),
}
INSTRUCTION_SETS = (  # that matrix products use
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimd", "bf16"),  # of Arm
)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32


@dataclass(frozen=True)
class Corpus:
    """Queries and documents in words, and pairs of them as rows."""

    name: str
    queries: list[str]
    documents: list[str]
    query_rows: np.ndarray
    document_rows: np.ndarray

    def first(self, pairs: int) -> "Corpus":
        """Return the same with the first pairs alone."""
        return replace(self, query_rows=self.query_rows[:pairs], document_rows=self.document_rows[:pairs])

    def texts(self) -> list[tuple[str, str]]:
        """Return the pairs in words."""
        rows = zip(self.query_rows, self.document_rows, strict=True)
        return [(self.queries[query], self.documents[document]) for query, document in rows]


def corpus(pairs: int, seed: int = 0) -> Corpus:
    """Return real pairs of natural length in random order: BM25's for the queries of TREC DL, or docstrings."""
    found = _trec_dl() if TREC_DL.is_dir() else _docstrings()
    order = np.random.default_rng(seed).permutation(len(found.query_rows))
    order = np.resize(order, pairs)
    return Corpus(found.name, found.queries, found.documents, found.query_rows[order], found.document_rows[order])


@lru_cache(maxsize=1)
def _trec_dl_texts() -> tuple[dict[str, str], dict[str, str]]:
    """Return TREC DL's queries of both years and their passages, by id."""
    with gzip.open(TREC_DL / "msmarco_v1_docs.jsonl.gz", "rt", encoding="utf-8") as file:
        documents = {one["doc_id"]: one["text"] for one in map(json.loads, file)}
    files = [TREC_DL / f"queries.{year}.tsv" for year in YEARS]
    lines = [line.split("\t") for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return dict(lines), documents


def _trec_dl(depth: int = 100) -> Corpus:
    queries, documents = _trec_dl_texts()
    files = [TREC_DL / "runs" / f"bm25.{year}.top100.run.gz" for year in YEARS]
    run = pd.concat([pd.read_csv(file, sep=r"\s+", header=None, dtype=str) for file in files])
    run = run[run[0].isin(queries) & run[2].isin(documents) & (run[3].astype(int) <= depth)]
    rows = pd.Index(list(queries)).get_indexer(run[0]), pd.Index(list(documents)).get_indexer(run[2])
    return Corpus("TREC DL 2019 and 2020, BM25's passages", [*queries.values()], [*documents.values()], *rows)


def judged(depth: int) -> tuple[Corpus, pd.DataFrame]:
    """Return TREC DL's queries with BM25's first passages, and their judgments by row, with ir-measures' columns."""
    names = ["query_id", "iteration", "doc_id", "relevance"]
    files = [TREC_DL / f"qrels.{year}.withtext.txt" for year in YEARS]
    table = pd.concat(
        [pd.read_csv(file, sep=r"\s+", names=names, dtype={name: str for name in names[:3]}) for file in files]
    )
    for column, texts in zip(("query_id", "doc_id"), _trec_dl_texts(), strict=True):
        table[column] = pd.Index(list(texts)).get_indexer(table[column]).astype(str)
    return _trec_dl(depth), table


def _docstrings() -> Corpus:
    with tempfile.TemporaryDirectory() as folder:
        build_docstrings(Path(folder), chosen_packages(["transformers", "torch"]))
        texts = [
            pd.read_parquet(Path(folder) / f"{name}.parquet")["text"].tolist() for name in ("queries", "documents")
        ]
    rng, count = np.random.default_rng(0), len(texts[0])
    asked = rng.integers(count, size=1_000).repeat(20)  # training and shared queries ask for several documents of each
    return Corpus("docstrings", *texts, asked, rng.integers(count, size=20_000))


def tokenizer(found: Corpus, vocabulary: int = VOCABULARY) -> StudyTokenizer:
    """Return WordPiece learned from the texts, with as many tokens as BERT has."""
    return StudyTokenizer(train_tokenizer([*found.queries, *found.documents], vocabulary), SPECIAL, TOKENS)


def tokenised(found: Corpus, tokens: StudyTokenizer) -> Pairs:
    """Return the pairs' texts as token ids: every query and every document once."""
    texts = []
    for rows, words in ((found.query_rows, found.queries), (found.document_rows, found.documents)):
        wanted = np.unique(rows)
        ids = tokens.encode([words[row] for row in wanted], TOKENS)
        lengths = np.zeros(len(words), np.int64)
        lengths[wanted] = [len(some) for some in ids]
        texts.append(Texts(np.concatenate(ids).astype(np.int32), np.concatenate([[0], np.cumsum(lengths)])))
    return Pairs(*texts, tokens)


def encoder(shape: str, vocabulary: int) -> PreTrainedModel:
    """Return an encoder of a shape with random weights, without dropout."""
    kind, layers, hidden, intermediate, heads = SHAPES[shape]
    settings = {"vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers, "pad_token_id": 0}
    settings |= {"intermediate_size": intermediate, "num_attention_heads": heads, "max_position_embeddings": TOKENS}
    if kind == "bert":
        config = AutoConfig.for_model(kind, **settings, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
        return AutoModel.from_config(config, add_pooling_layer=False)
    ends = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    return AutoModel.from_config(AutoConfig.for_model(kind, **settings, **ends))


def in_turns(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of every side's repeats, which take turns; a first round warms up and is discarded."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, work in sides.items():
            began = time.perf_counter()
            work()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return seconds


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let a side of ours keep freed memory, as our notebooks do, and the others have it as glibc leaves it to them.

    Once large tensors have been freed, glibc by itself gives back what is free beyond 64 MB.
    """
    keep_freed_memory()
    try:
        yield
    finally:
        if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
            mallopt(M_TRIM_THRESHOLD, 2**26)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> str:
    """Return how many times faster one side is than another: the median of the repeats' ratios, and their range."""
    each = [one / other for one, other in zip(slow, fast, strict=True)]
    return f"{statistics.median(each):.2f}× [{min(each):.2f}, {max(each):.2f}]"


def span(values: Sequence[float], form: str = ",.0f") -> str:
    """Return a median with its range."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as a table in Markdown; columns are those of the first row."""
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads), *([str(row[head]) for head in heads] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def precision() -> str:
    """Return the name of what all sides compute in."""
    return str(DTYPE).removeprefix("torch.")


def instruction_sets() -> list[str]:
    """Return which of those that matrix products use this CPU has; none where Linux does not say."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    return [name for name in INSTRUCTION_SETS if name in flags]


def publish(title: str, body: str) -> None:
    """Print a section, and put it into `reports/benchmarks.md` in place of the one of that title."""
    on = hardware()
    device = ", ".join([on["device"], *instruction_sets()]) if DEVICE.type == "cpu" else on["device"]
    where = f"{device}, {torch.get_num_threads()} threads, torch {on['torch']}, {time.strftime('%Y-%m-%d')}"
    section = f"## {title}\n\n{where}\n\n{body}\n"
    print(section)
    head = "# Benchmarks\n\nWritten by `make bench`. Read the ratios: seconds are those of one machine on one day.\n"
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else head
    before, *sections = written.split("\n## ")
    kept = [one for one in sections if not one.startswith(f"{title}\n")]
    parts = [before, *(f"## {one}" for one in kept), section]
    PAGE.write_text("\n\n".join(part.strip("\n") for part in parts) + "\n", encoding="utf-8")
