"""What a study is to forecast: its held-out rungs at the end of their training, as laws count sizes and exposures."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from rankscale_utils import laws
from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.reading import read_of_study
from rankscale_utils.measurements.table import SERIES_COLUMNS
from rankscale_utils.study import paths
from rankscale_utils.study.forecasting import Forecasting
from rankscale_utils.study.study import Study

from .fit import Fitted, last_rows, rows_of_rungs

SIZE = "params_non_embedding"
COUNTS = ["params", SIZE, "params_nominal", "step", "exposure", "N", "D"]


def held_out_design(study: Study, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return what is to be forecast, a row for each held-out rung of each objective (and series of a CSV), at its end.

    Columns rung, params, params_non_embedding, exposure, N, D, and for the baselines params_nominal and step where the
    measurements have them. A study that trains knows its held-out rungs from their configurations; of a CSV the values
    are dropped.
    """
    if study.measurements is not None:
        table = read_of_study(study).table.merge(pd.DataFrame([one.labels for one in fitted]))
        return measured_design(table, study.held_out.rungs, study.forecasting)
    return trained_design(study, read_json(paths.ladder_file(study.folder)), fitted)


def measured_design(table: pd.DataFrame, rungs: Sequence[str], settings: Forecasting) -> pd.DataFrame:
    """Return what is to be forecast of rungs that a table of measurements holds; their values are not looked at."""
    ends = last_rows(rows_of_rungs(table.drop(columns="value"), rungs, settings))
    ends = ends[[name for name in (*SERIES_COLUMNS, "rung", *COUNTS) if name in ends]]
    ends = ends.sort_values("exposure", ascending=False, kind="stable")  # first those that did not stop early
    return ends.drop_duplicates([*SERIES_COLUMNS, "rung"]).sort_values("N", kind="stable").reset_index(drop=True)


def trained_design(study: Study, ladder: dict, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return what is to be forecast of a study that trains; ladder: as in `ladder.json`."""
    designs = [_of_objective(study, objective, ladder, fitted) for objective in study.objectives]
    return pd.concat(designs, ignore_index=True)


def _of_objective(study: Study, objective: str, ladder: dict, fitted: Sequence[Fitted]) -> pd.DataFrame:
    """Return what is to be forecast of one objective, whose family has counts of its own."""
    design, settings = _ends(study, objective, ladder), study.forecasting
    seen = [one.table for one in fitted if one.objective == objective]
    if not seen:  # every run of it failed
        return design.iloc[:0]
    known = settings.size in design
    size = design[settings.size].astype(float) if known else convert_counts(pd.concat(seen), SIZE, "N", design)
    return design.assign(N=size, D=convert_counts(pd.concat(seen), "exposure", "D", design))


def _ends(study: Study, objective: str, ladder: dict) -> pd.DataFrame:
    """Return the held-out rungs' counts at the end of their training: of the last checkpoints that laws average."""
    rungs, settings = ladder["rungs"][study.family_of(objective)], study.forecasting
    rows = [
        {"run": rung, "objective": objective, "rung": rung, **rungs[rung], "exposure": exposure}
        for rung in study.held_out.rungs
        for exposure in ladder["exposures"]
    ]
    ends = laws.averaged(pd.DataFrame(rows), settings.checkpoints, settings.burn_in).groupby("run", sort=False).tail(1)
    return ends.drop(columns="run").reset_index(drop=True)


def convert_counts(seen: pd.DataFrame, x: str, y: str, at: pd.DataFrame) -> np.ndarray:
    """Return one count, y, for another, x, as the fitted rungs relate them: straight in logarithms, and on beyond."""
    pairs = seen.groupby(x)[y].mean()
    if len(pairs) < 2 or np.allclose(pairs, pairs.index):
        return at[x].to_numpy(float)
    return laws.Cost.through(pairs.index, pairs).flops_per_unit(at[x])


def design_of_series(one: Fitted, design: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a design that belong to a series, which are all of them where it names none."""
    return design.merge(pd.DataFrame([one.labels])) if "objective" in design else design.assign(**one.labels)
