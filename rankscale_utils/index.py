"""The first page of a study: the answer, then the way to the reports."""

import io
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils import (
    allocations,
    annotation_findings,
    annotations,
    family_findings,
    findings,
    fits,
    forecasts,
    measurements,
    plots,
    report,
    tables,
)
from rankscale_utils.device import hardware
from rankscale_utils.files import read_json
from rankscale_utils.study import Study


def index_page(study: Study) -> dict[str, Any]:
    """Return what the index template shows."""
    scored = forecasts.read_scored(study)
    fitted, table = fits.of_front(fits.fit_study(study)), allocations.all_measurements(study)
    cost, _ = allocations.training_cost(study, table)
    exponents = allocations.exponents(fitted, cost, study.forecasting.level)
    compared = allocations.equal_compute(fitted, table, cost)
    metric = measurements.headline(study, scored)
    last = findings.averages(scored[scored["metric"] == metric])
    return {
        "study": study,
        "title": study.title or f"Scaling laws of {study.name}",
        "css": (report.TEMPLATE / "style.css").read_text(),
        "metric": metric,
        "answer": [
            *_of_families(study),
            *findings.answer(study, scored, exponents, compared),
            *_of_annotations(study),
        ],
        "forecast_note": f"One new run of each held-out rung at the largest exposure, {study.forecasting.level:.0%} "
        "intervals; the diamond is what was measured, the tick is “no change from the largest fitted rung”, the cross "
        "with its own bar is the protocol of arXiv 2603.04816. "
        "Coverage is how often such intervals hold the truth in simulated studies of this design.",
        "forecast_table": tables.shown(last, **findings.collection_column(last), **FORECAST_COLUMNS).data,
        "figures": [as_svg(axes) for axes in _figures(study, fitted, scored, metric)],
        "contract": tables.contracts(read_json(study.folder / "contract.json")).data if study.runs else "",
        "pages": _pages(study),
        "runs": _runs(study, table, metric),
        "runs_note": findings.runs_note(study),
        "provenance": _provenance(study, scored),
    }


FORECAST_COLUMNS = {
    "objective": "objective",
    "rung": "rung",
    "forecast": "forecast|.4f",
    "interval": "interval",
    "actual": "measured|.4f",
    "relative_error": "relative|+.1%",
    "hit": "inside",
    "coverage": "coverage|.0%",
    "skill_shown": "skill",
    "skill_to_p0": "skill to P0|+.2f",
}


def as_svg(axes: Axes) -> str:
    """Return an axes' figure as SVG for use inside a page, and close it."""
    out = io.StringIO()
    axes.figure.savefig(out, format="svg")
    plt.close(axes.figure)
    return report.inline_svg(out.getvalue())


def _figures(study: Study, fitted: list[fits.Fitted], scored: pd.DataFrame, metric: str) -> list[Axes]:
    plots.use_style()
    shown = [one for one in fitted if one.metric == metric]
    curves, truth = forecasts.all_curves(study, shown, scored), fits.held_out(study)
    return [
        *plots.forecast_and_truth(scored[scored["metric"] == metric]),
        *plots.by_size(fits.ends(shown), curves, fits.at_end(truth)),
        *plots.by_exposure(fits.tables(shown, truth), curves, study.held_out.rungs),
    ]


def _pages(study: Study) -> list[dict[str, str]]:
    pages = []
    if study.runs:
        first = study.run_folder(study.runs[0])
        for step in ("1_train", "2_evaluate"):
            title = report.title_of(nbformat.read(first / f"{step}.ipynb", as_version=4))
            pages.append(
                {"name": f"{step[2:].capitalize()}, {len(study.all_runs)} runs", "title": title, "link": "#runs"}
            )
    for notebook in sorted(study.folder.glob("[3-8]_*.ipynb")):
        name = notebook.stem[2:]
        title = report.title_of(nbformat.read(notebook, as_version=4))
        pages.append({"name": name.capitalize(), "title": title, "link": f"{name}.html"})
    return pages


def _of_families(study: Study) -> list[str]:
    """Return what the first page says of families, where there are several."""
    if len(study.families) < 2:
        return []
    return [family_findings.answer(pd.read_csv(study.folder / "families.csv"))]


def _of_annotations(study: Study) -> list[str]:
    """Return what the first page says of annotated pairs: the largest rung's forecast, and their worth where few."""
    if not study.annotations:
        return []
    found = annotations.fit_annotations(study)
    scored = pd.read_csv(study.folder / "annotations.csv")
    said, worth = annotation_findings.forecasting(scored)[-2:], annotations.worth_of_pairs(study, found)
    if worth.empty:  # human pairs alone
        return said
    few = worth.sort_values("reference_pairs", kind="stable").drop_duplicates("source")
    return [*said, *annotation_findings.worth(few)]


def _runs(study: Study, table: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    if study.annotations:
        annotated = measurements.usable(measurements.read_runs(study, study.annotation_runs))
        table = pd.concat([table, measurements.front(annotated)])
    rows, fitted = [], study.fitted_runs + study.fitted_annotation_runs
    for run in study.all_runs:
        ledger = read_json(study.run_folder(run) / "ledger.json")
        mine = table[(table["run"] == run.name) & (table["metric"] == metric)].sort_values("exposure")
        if mine.empty:
            mine = pd.DataFrame([ledger | {"exposure": 0, "flops": 0, "value": float("nan")}])
        rows.append(mine.iloc[-1].to_dict() | {"name": run.name, "held_out": run not in fitted,
                    "status": ledger["status"]})  # fmt: skip
    return rows


def _provenance(study: Study, scored: pd.DataFrame) -> dict[str, str]:
    seal = scored.iloc[0]
    facts = {"sealed": f"{seal['sealed_at']}, SHA-256 {seal['sealed_sha256']}", "measurements": seal["data_sha256"]}
    if study.measurements is not None:
        return facts | {"source": study.measurements_file.name}
    manifest = read_json(study.folder / "collection.json")
    return (
        facts
        | {
            "collection": f"{manifest['collection']}: {manifest['pairs']:,} pairs, SHA-256 {manifest['sha256']}",
            "machine": ", ".join(f"{name} {value}" for name, value in hardware().items() if name != "threads"),
        }
        | _packages(manifest)
    )


def _packages(manifest: dict[str, Any]) -> dict[str, str]:
    """Return what the docstrings were taken from, where they are the collection."""
    packages = ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items())
    return {"made of": f"the docstrings of {packages}"} if packages else {}
