"""Latency against document length, on random tokens and random weights."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.collections.tokens import Pairs, StudyTokenizer, Texts
from rankscale_utils.machine.files import result_file
from rankscale_utils.models.build import bi_encoder_on, count_rung, random_cross_encoder, rung_config
from rankscale_utils.models.ed2lm import Setting, build_ed2lm
from rankscale_utils.models.export import Model
from rankscale_utils.models.pretrained import bare_encoder
from rankscale_utils.scoring.systems import System, systems_of
from rankscale_utils.study import paths
from rankscale_utils.study.evaluation import Text
from rankscale_utils.study.objectives import Family, score_of_objective
from rankscale_utils.study.study import Study

from .clock import BATCHES, benchmark_calls
from .depths import DEPTHS
from .speed import first_objectives

LENGTHS = (64, 128, 256, 512)  # tokens of a document


def of_rung(
    study: Study,
    rung: str,
    objectives: Iterable[str],
    pairs: Pairs,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> list[System]:
    """Return every way to score with models like a rung's, but for their weights and how long their texts may be.

    objectives: those whose families are wanted. pairs: its tokenizer's `pair_tokens` are the models' positions.
    folder: where ED2LM's stores of all documents go.

    Raises:
        StudyError: a pretrained rung's configuration cannot be read.
    """
    queries, rows = (np.arange(len(texts.starts) - 1) for texts in (pairs.queries, pairs.documents))
    longest = int(pairs.queries.lengths(queries).max())
    text = study.text.model_copy(update={"query_tokens": longest, "pair_tokens": pairs.tokenizer.pair_tokens})
    found = []
    for objective in objectives:
        model = _model(study, study.family_of(objective), rung, pairs, text).to(device, dtype).eval()
        kind = score_of_objective(objective, study.objectives[objective])
        found += systems_of(model, pairs, text, rows, folder, rung, kind)
    return found


def _model(study: Study, family: Family, rung: str, pairs: Pairs, text: Text) -> Model:
    settings = rung_config(study, family, rung, pairs.tokenizer.tokenizer.get_vocab_size())
    if family == "ed2lm":
        return build_ed2lm(settings, Setting(0, 1, text.document_tokens + 1, study.ed2lm.poolings))
    settings.max_position_embeddings = max(settings.max_position_embeddings, text.pair_tokens)
    if family == "bi_encoder":
        return bi_encoder_on(study, rung, bare_encoder(settings), weights=False)
    return random_cross_encoder(study, rung, settings)


def measure_lengths(
    study: Study,
    collection: Collection,
    device: torch.device,
    lengths: Sequence[int] = LENGTHS,
    queries: int = 3,
    repeats: int = 5,
) -> pd.DataFrame:
    """Write `fixed_lengths.csv` and return it: `fixed_lengths` of the ladder's largest rung in each of its families.

    Few queries are enough where all are of one length. The depth is the evaluation's, or 100 where that is deeper.
    """
    tokenizer, depth = collection.pairs().tokenizer, min(study.evaluation.depth, max(DEPTHS))
    vocabulary, objectives = tokenizer.tokenizer.get_vocab_size(), first_objectives(study).values()
    sizes = {rung: count_rung(study, study.families[0], rung, vocabulary).non_embedding for rung in study.ladder}
    with tempfile.TemporaryDirectory() as folder:
        build = partial(of_rung, study, max(sizes, key=sizes.get), objectives, folder=Path(folder), device=device)
        table = fixed_lengths(build, tokenizer, lengths, [depth], queries, batches=[depth], repeats=repeats)
    with result_file(paths.fixed_lengths_file(study.folder)) as temporary:
        table.to_csv(temporary, index=False)
    return table


def fixed_lengths(
    build: Callable[[Pairs], Sequence[System]],
    tokenizer: StudyTokenizer,
    lengths: Sequence[int] = LENGTHS,
    depths: Sequence[int] = DEPTHS,
    queries: int = 10,
    query_tokens: int = 12,
    batches: Sequence[int] = BATCHES,
    repeats: int = 5,
) -> pd.DataFrame:
    """Return `benchmark` on random texts, with a further column document_tokens: all documents have that many tokens.

    Special tokens come on top. build: the systems for such texts; its pairs' tokenizer says how many positions models
    need. Time does not feel whether weights are random.
    """
    tables = []
    for length in lengths:
        pairs = random_pairs(tokenizer, queries, query_tokens, max(depths), length)
        groups = {depth: [(row, np.arange(depth)) for row in range(queries)] for depth in depths}
        timed = benchmark_calls(build(pairs), pairs.queries, pairs.documents, groups, batches, repeats)
        tables.append(timed.assign(document_tokens=length))
    return pd.concat(tables, ignore_index=True)


def random_pairs(
    tokenizer: StudyTokenizer, queries: int, query_tokens: int, documents: int, document_tokens: int
) -> Pairs:
    """Return queries and documents of random token ids, all of one length, which no pair cuts."""
    rng, vocabulary = np.random.default_rng(0), tokenizer.tokenizer.get_vocab_size()

    def texts(count: int, tokens: int) -> Texts:
        return Texts(rng.integers(vocabulary, size=count * tokens, dtype=np.int32), np.arange(count + 1) * tokens)

    longest = replace(tokenizer, pair_tokens=query_tokens + document_tokens + tokenizer.layout.special)
    return Pairs(texts(queries, query_tokens), texts(documents, document_tokens), longest)
