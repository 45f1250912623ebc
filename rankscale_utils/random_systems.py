"""Systems of one rung with random weights, which time does not feel, timed on texts of any length."""

import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModel

from rankscale_utils.collections import Collection
from rankscale_utils.collections.tokens import Pairs
from rankscale_utils.depths import DEPTHS
from rankscale_utils.families.ed2lm import score_of
from rankscale_utils.files import whole_file
from rankscale_utils.models import ed2lm, ladder
from rankscale_utils.models.bi_encoder import BiEncoder
from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.models.layout import Model
from rankscale_utils.parts import Family, Text
from rankscale_utils.pretrained import without_pooler
from rankscale_utils.speed import LENGTHS, first_objectives, fixed_lengths
from rankscale_utils.study import Study
from rankscale_utils.systems import System, of_model


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
        kind = score_of(objective, study.objectives[objective])
        found += of_model(model, pairs, text, rows, folder, rung, kind)
    return found


def _model(study: Study, family: Family, rung: str, pairs: Pairs, text: Text) -> Model:
    settings = ladder.config(study, family, rung, pairs.tokenizer.tokenizer.get_vocab_size())
    if family == "ed2lm":
        return ed2lm.build(settings, ed2lm.Setting(0, 1, text.document_tokens + 1, study.ed2lm.poolings))
    settings.max_position_embeddings = max(settings.max_position_embeddings, text.pair_tokens)
    encoder = AutoModel.from_config(settings, **without_pooler(settings))
    return CrossEncoder(encoder) if family == "cross_encoder" else BiEncoder(encoder, **study.bi_encoder.model_dump())


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
    sizes = {rung: ladder.count(study, study.families[0], rung, vocabulary).non_embedding for rung in study.ladder}
    with tempfile.TemporaryDirectory() as folder:
        build = partial(of_rung, study, max(sizes, key=sizes.get), objectives, folder=Path(folder), device=device)
        table = fixed_lengths(build, tokenizer, lengths, [depth], queries, batches=[depth], repeats=repeats)
    with whole_file(study.folder / "fixed_lengths.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table


def beside_counts(table: pd.DataFrame) -> pd.DataFrame:
    """Return `fixed_lengths` of one depth with ratios of time and, beside them, of counted FLOPs.

    Further columns: faster and faster_counted, how many times less than the slowest system at that length; grown and
    grown_counted, how many times more than at the shortest length.
    """
    slowest = table.loc[table.groupby("document_tokens")["p50_ms"].idxmax()].set_index("document_tokens")
    shortest = table[table["document_tokens"] == table["document_tokens"].min()].set_index("name")
    for cost, ending in (("p50_ms", ""), ("flops_per_pair", "_counted")):
        faster = table["document_tokens"].map(slowest[cost]) / table[cost]
        grown = table[cost] / table["name"].map(shortest[cost])
        table = table.assign(**{f"faster{ending}": faster, f"grown{ending}": grown})
    return table
