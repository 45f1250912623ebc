"""Models that exist, measured as they are: on every test of the study, as the ladder's checkpoints are."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rankscale_utils.collections import Collection
from rankscale_utils.machine.files import write_parquet
from rankscale_utils.machine.progress import say
from rankscale_utils.models.counts import parameters
from rankscale_utils.models.published import read_system
from rankscale_utils.scoring.published import cut_share, own_pairs, score_published
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from .evaluate import reason_against
from .metrics import ranked_test, reference_values
from .scorers import open_tests
from .trec_runs import write_run
from .with_first_stage import together

OF_QUERIES = ("system", "family", "collection", "task", "excluded")  # columns beside each query's value


def evaluate_system(study: Study, name: str, collection: Collection, device: torch.device) -> pd.DataFrame:
    """Measure a system on every test; write its TREC runs, per-query values and, last, its measurements.

    Columns as in `systems/SYSTEM/measurements.parquet`, a row a collection and metric.
    """
    published, folder = read_system(study, name), paths.system_folder(study.folder, name)
    published.model.to(device)
    counts = parameters(published.model)
    tests = open_tests(study, collection)
    rows = [np.concatenate([test.candidates[f"{kind}_row"] for test in tests]) for kind in ("query", "document")]
    say(f"{study.name}: {name} scores {len(rows[0]):,} pairs")
    pairs = own_pairs(published, collection, *rows)
    ends = np.cumsum([len(test.candidates) for test in tests])[:-1]
    scores = np.split(score_published(published, pairs, *rows), ends)
    measured, per_query = [], []
    ranked_tests = (ranked_test(test, found, reference_values(test)) for test, found in zip(tests, scores, strict=True))
    for ranked in together(ranked_tests, bool(study.with_first_stage)):
        test = ranked.test
        write_run(paths.run_file(checkpoint_of_system(study, name), test.name), ranked, name)
        columns = {
            "study": study.name,
            "system": name,
            "pretrained": study.systems[name].pretrained,
            "family": published.family,
            "params": counts.total,
            "params_non_embedding": counts.non_embedding,
            "pair_tokens": published.pair_tokens,
            "cut": cut_share(published, pairs, *(test.candidates[f"{kind}_row"] for kind in ("query", "document"))),
            "collection": test.name,
            "task": ranked.task,
            "excluded": reason_against("complete", ranked),
        }
        per_query.append(ranked.per_query().assign(**{column: columns[column] for column in OF_QUERIES}))
        measured.append(ranked.means().assign(**columns))
    table = pd.concat(measured, ignore_index=True)
    write_parquet(paths.per_query_file(folder), pd.concat(per_query, ignore_index=True))
    write_parquet(paths.measurements_file(folder), table)
    return table


def checkpoint_of_system(study: Study, name: str) -> Path:
    """Return what stands in a checkpoint's place, beside which a system's TREC runs lie."""
    return paths.system_folder(study.folder, name) / "as-it-is"
