"""The first page of a study: the answer, then the way to the reports."""

import io
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
from matplotlib.axes import Axes

from rankscale_utils.analysis.curves import draw_curves
from rankscale_utils.analysis.fit import (
    Fitted,
    fit_study,
    of_headline_test,
)
from rankscale_utils.analysis.forecast import average_forecasts, read_scored
from rankscale_utils.analysis.on_tests import read_with_first_stage
from rankscale_utils.analysis.predictability import judge_study
from rankscale_utils.analysis.results import read_table
from rankscale_utils.analysis.systems import read_systems
from rankscale_utils.machine.files import read_json
from rankscale_utils.measurements.reading import read_runs, study_measurements
from rankscale_utils.measurements.table import at_chance, by_own_score, failed, headline, labelled, on_headline_test
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study

from . import allocate as allocate_page
from . import annotations as annotations_page
from . import families as families_page
from . import figures, first_screen, ladder, notes, references, strange_runs, tables, take, tests_table, verdicts
from . import forecast as forecast_page
from . import systems as systems_page
from .glossary import explained, glossary
from .nothing import nothing_sentence
from .page import TEMPLATE, title_of
from .prose import legible, listed, other_seals
from .svg import inline_svg
from .with_first_stage import together_sentences

LADDER_NOTE = (
    "Filled marks are runs that the laws were fitted to, the line is their average with the interval of its mean; open "
    "marks with bars are forecasts of one new run of a held out rung with their interval, diamonds what was measured."
)
TESTS_NOTE = (
    "{metric}, a mean over seeds at the end of training; the page opens with {first}, {why}. Below "
    "each value: how far it is from the first stage's own order and then from a random order of the same documents, "
    "with paired 95% intervals over queries, not corrected for how many there are. ▲ above, ▼ below, ○ not told apart."
)
FORECAST_COLUMNS = {
    "objective": "objective",
    "rung": "rung",
    "forecast": "forecast|.4f",
    "interval": "interval",
    "actual": "measured|.4f",
    "relative_error": "relative|+.1%",
    "hit": "inside",
    "persistence": "“no change”|.4f",
    "p0_forecast": "P0|.4f",
}


def runs_sentence(study: Study) -> str:
    """Say what the grid of runs is."""
    if not study.runs:
        return ""
    seeds = ", ".join(f"{name} ({len(settings.seeds)})" for name, settings in study.objectives.items())
    return (
        f"{len(study.ladder)} rungs, objectives with their number of seeds: {seeds}. "
        "Every rung's learning rate follows from its hidden size by one rule, stated in the study."
        + _annotation_note(study)
    )


def _annotation_note(study: Study) -> str:
    if not study.annotations:
        return ""
    sources = ", ".join(dict.fromkeys(run.source.replace("_", " ") for run in study.annotation_runs))
    return (
        f" {len(study.annotation_runs)} further runs on {study.annotations.counts[0]:,} to "
        f"{study.annotations.counts[-1]:,} annotated pairs ({sources}), each measured at its own end."
    )


def index_page(study: Study) -> dict[str, Any]:
    """Return what the index template shows."""
    scored, fitted = read_scored(study), fit_study(study)
    measured = study_measurements(study, fitted_only=False)
    metric = headline(study, scored if fitted else measured)
    on_tests = read_table(paths.rungs_on_tests_file(study.folder))
    opening = scored if fitted else measured
    opening = on_headline_test(opening[opening["metric"] == metric], study.headline_test).iloc[:1]
    first_test = tables.test_of(opening)
    said = {"forecast_table": ""}
    if fitted:
        said = _forecasts(study, of_headline_test(fitted, study.forecasting), scored, metric)
    nothing = [] if fitted else [nothing_sentence(read_table(paths.left_out_file(study.folder)))]
    return said | {
        "study": study,
        "title": study.title or f"Scaling laws of {study.name}",
        "css": (TEMPLATE / "style.css").read_text(encoding="utf-8"),
        "script": (TEMPLATE / "page.js").read_text(encoding="utf-8"),
        "first_test": first_test,
        "tests_note": TESTS_NOTE.format(
            metric=listed(labelled(on_tests)["metric"].unique()) if len(on_tests) else metric,
            first=first_test,
            why=_why_first(study),
        ),
        "ladder_note": LADDER_NOTE,
        "metric": metric,
        "answer": [
            legible(sentence)
            for sentence in (
                *_of_families(study),
                *_of_verdicts(study, fitted, metric),
                *said.get("answer", nothing),
                *_of_systems(study, metric),
                *_of_annotations(study),
            )
        ],
        "contract": tables.contract_tables(read_json(paths.contract_file(study.folder))).data if study.runs else "",
        "changes": _changes(study),
        "notes": notes.data_notes(study, measured, on_tests),
        "pages": _pages(study),
        "references": references.references_table(measured).data,
        "on_tests": tests_table.tests_table(on_tests).data,
        "banner": [explained(sentence) for sentence in _banner(study, on_tests)],
        "glossary": glossary(),
        "downloads": take.downloads(study),
        "evidence": take.evidence(study),
        "citation": take.citation(study, scored),
        "works": take.works(),
        "runs": _runs(study, measured.merge(opening[["collection", "task"]]), metric),
        "runs_note": runs_sentence(study),
        "provenance": notes.provenance(study, scored),
    }


def _why_first(study: Study) -> str:
    """Say why the page opens with a test."""
    if study.headline_test is None:
        return "the study's first test, as its forecasting.headline_test names no other"
    return "which the study chose"


def _banner(study: Study, on_tests: pd.DataFrame) -> list[str]:
    """Return how models stand to the first stage's own order, and what the best of them reaches together with it."""
    said = first_screen.against_first_stage(on_tests, study.headline_test)
    if not said or not study.with_first_stage:
        return said
    return [" ".join([*said, *together_sentences(read_with_first_stage(study), test=study.headline_test)])]


def _forecasts(study: Study, fitted: list[Fitted], scored: pd.DataFrame, metric: str) -> dict[str, Any]:
    """Return what the index template shows of forecasts and of advice."""
    exponents, compared = (read_table(file(study.folder)) for file in (paths.exponents_file, paths.equal_compute_file))
    last = forecast_page.beside_p0(by_own_score(scored[scored["metric"] == metric]))
    return {
        "answer": _of_forecasts(study, scored, exponents, compared),
        "forecast_note": f"One new run of each held-out rung at the largest exposure, {study.forecasting.level:.0%} "
        "intervals; the diamond is what was measured, the tick is “no change from the largest fitted rung”, the cross "
        "with its own bar is the protocol of arXiv 2603.04816.",
        "forecast_table": tables.styled(last, **tables.collection_column(last), **FORECAST_COLUMNS).data,
        "tiles": first_screen.tiles(study, scored, metric, _results(study)),
        "ladder": as_svg(_ladder(study, fitted, scored, metric)),
        "figures": [as_svg(axes) for axes in forecast_page.forecast_and_truth(scored, [metric])],
    }


def _changes(study: Study) -> str:
    """Return a table of what was dropped, filled in or read otherwise, or nothing where nothing was."""
    table = read_table(paths.changes_file(study.folder))
    return tables.styled(table, what="what", count="how many|,", where="where").data if len(table) else ""


def as_svg(axes: Axes) -> str:
    """Return an axes' figure as SVG for use inside a page, and close it."""
    out = io.StringIO()
    axes.figure.savefig(out, format="svg")
    plt.close(axes.figure)
    return inline_svg(out.getvalue())


def _results(study: Study) -> dict[str, pd.DataFrame]:
    """Return the tables that the first screen speaks of, by name."""
    names = ("exponents", "within_budget", "next_runs")
    found = {name: read_table(paths.ALLOCATION_FILES[name](study.folder)) for name in names}
    others = {"on_tests": paths.rungs_on_tests_file, "verdicts": paths.predictability_file, "past": paths.backtest_file}
    return found | {name: read_table(file(study.folder)) for name, file in others.items()}


def _ladder(study: Study, fitted: list[Fitted], scored: pd.DataFrame, metric: str) -> Axes:
    """Draw the large figure of the headline test, with the order as retrieved where its value is known."""
    figures.use_style()
    drawn = draw_curves(study, [series for series in fitted if series.metric == metric], opened=True)
    mine = on_headline_test(scored[scored["metric"] == metric], study.headline_test)
    return ladder.ladder_figure(study, drawn, mine)


def _pages(study: Study) -> list[dict[str, str]]:
    pages = []
    if study.runs:
        first = study.run_folder(study.runs[0])
        for step in paths.STEPS_OF_RUNS:
            page, name = paths.page_file(study.reports, step), f"{step[2:].capitalize()}, {len(study.all_runs)} runs"
            title = title_of(nbformat.read(paths.notebook_file(first, step), as_version=4))
            pages.append({"name": name, "title": title, "link": page.name})
    for notebook in paths.study_notebooks(study.folder):
        page, title = paths.page_file(study.reports, notebook.stem), title_of(nbformat.read(notebook, as_version=4))
        pages.append({"name": page.stem.capitalize(), "title": title, "link": page.name})
    return pages


def _of_forecasts(study: Study, scored: pd.DataFrame, exponents: pd.DataFrame, compared: pd.DataFrame) -> list[str]:
    """Return what the first page says first: forecast, truth, and how to spend the budget."""
    metric = headline(study, scored)
    rows = average_forecasts(on_headline_test(scored[scored["metric"] == metric], study.headline_test))
    sentences = [
        f"{row['rung']} with the {row['objective']} objective was forecast to reach {metric} {row['forecast']:.4f} "
        f"on {tables.test_of(rows)} [{row['lo']:.4f}, {row['hi']:.4f}]; it reached {row['actual']:.4f}, "
        f"{'inside' if row['hit'] else 'outside'} the interval."
        for _, row in rows.iterrows()
    ]
    audit = [
        forecast_page.coverage_sentence(scored),
        forecast_page.comparison_sentence(scored),
        forecast_page.persistence_sentence(rows) + other_seals(scored),
    ]
    return [*sentences, " ".join(audit), allocate_page.allocation_sentence(study, exponents, compared)]


def _of_verdicts(study: Study, fitted: list[Fitted], metric: str) -> list[str]:
    """Return what the first page says before any forecast: of metrics that cannot be forecast, and of strange runs."""
    judged = judge_study(study, of_headline_test(fitted, study.forecasting)) if fitted else pd.DataFrame()
    file = paths.strange_runs_file(study.folder)
    strange = read_table(file) if file.exists() else pd.DataFrame()
    said = verdicts.verdict_sentences(judged[judged["metric"] == metric]) if fitted else []
    said += strange_runs.strange_sentences(strange[strange["metric"] == metric]) if len(strange) else []
    return [*verdicts.whole_sentences(study), *said]


def _of_families(study: Study) -> list[str]:
    """Return what the first page says of families, where there are several."""
    if len(study.families) < 2:
        return []
    return [families_page.answer_sentence(read_table(paths.families_file(study.folder)))]


def _of_systems(study: Study, metric: str) -> list[str]:
    """Return what the first page says of models that exist, where the study names some."""
    if not study.systems:
        return []
    timed = read_table(paths.speed_file(study.folder))
    return systems_page.systems_sentences(read_systems(study), metric, timed, study.headline_test)


def _of_annotations(study: Study) -> list[str]:
    """Return what the first page says of annotated pairs: the largest rung's forecast, and their worth where few."""
    if not study.annotations:
        return []
    scored, worth = (read_table(file(study.folder)) for file in (paths.annotations_file, paths.annotation_worth_file))
    said = annotations_page.annotations_forecast_sentence(scored)[-2:]
    if worth.empty:  # human pairs alone
        return said
    few = worth.sort_values("reference_pairs", kind="stable").drop_duplicates("source")
    return [*said, *annotations_page.worth_sentence(few)]


def _runs(study: Study, table: pd.DataFrame, metric: str) -> list[dict[str, Any]]:
    """Return every run's last checkpoint by a metric; table: measurements, those of failed runs too."""
    if study.annotations:
        table = pd.concat([table, on_headline_test(read_runs(study, study.annotation_runs), study.headline_test)])
    table = labelled(table)  # a metric by another score than the objective's own has another name
    rows, fitted = [], study.fitted_runs + study.fitted_annotation_runs
    for run in study.all_runs:
        ledger = read_json(paths.ledger_file(study.run_folder(run)))
        last = table[(table["run"] == run.name) & (table["metric"] == metric)].sort_values("exposure").tail(1)
        last = last.assign(value=last["value"].where(~failed(last)))
        shown = {"exposure": 0, "flops": 0, "value": None, "excluded": ""} | ledger
        shown |= last.iloc[0].to_dict() if len(last) else {}
        said = [ledger["status"], shown["excluded"] if shown["excluded"] != ledger["status"] else ""]
        said += ["no better than a random order"] if at_chance(last).any() else []
        rows.append(shown | {"name": run.name, "held_out": run not in fitted, "status": ", ".join(filter(None, said))})
    return rows
