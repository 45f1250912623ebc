"""No page shows a number without end: a constant series, an infinite and a huge number on every page."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from jinja2 import Environment

from rankscale_utils.analysis.allocate import allocate_study
from rankscale_utils.analysis.fit import fit_study, series_left_out
from rankscale_utils.analysis.forecast import new_run_forecasts, score_study, seal_study, shown_series
from rankscale_utils.analysis.held_out import past_of_averages
from rankscale_utils.analysis.multiverse import forecast_universes
from rankscale_utils.report import allocate as allocate_page
from rankscale_utils.report import fit as fit_page
from rankscale_utils.report import forecast as forecast_page
from rankscale_utils.report import next_runs, tables
from rankscale_utils.report.index import index_page
from rankscale_utils.report.planner import planner
from rankscale_utils.report.prose import legible, si, times, written
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from tests.report.html import cells, records

UNREADABLE = re.compile(r"(?<![\w.])[+\-−$]?(nan|inf)\b|\d[\d,]{18,}|NaN|Infinity")
SIZES = {"17m": 3.9e6, "32m": 1.25e7, "68m": 4.2e7, "400m": 3.4e8}


@pytest.mark.parametrize(
    ("value", "form", "said"),
    [
        (0.12345, ".3f", "0.123"),
        (1_234_567.0, ",.0f", "1,234,567"),
        (12, "d", "12"),
        (np.nan, ".4f", "–"),
        (np.inf, ".4f", "–"),
        (-np.inf, ".1%", "–"),
        (None, ".4f", "–"),
        (1.5e300, ".4f", "1.5e+300"),
        (1.5e300, ",.0f", "1.5e+300"),
        (-2e40, "+.1f", "-2e+40"),
    ],
)
def test_a_number_is_written_so_that_it_can_be_read(value, form, said):
    assert written(value, form) == said
    templates = Environment(autoescape=True)
    templates.filters["written"] = written
    assert templates.from_string("{{ value | written(form) }}").render(value=value, form=form) == said


def test_sentences_keep_their_words_and_lose_what_is_no_number():
    assert legible(f"from {np.nan:.4f} to [{-np.inf:.1f}, {np.inf:.0%}], {1e300:.4f} or {2e30:,.0f}") == (
        "from – to [–, –], 1e+300 or 2e+30"
    )
    kept = "infAP, nan-query, inf-a/nan, SHA-256 1234567890123456…, 1,028,051,000 parameters at 0.42416339224151633."
    assert legible(kept) == kept
    assert tables.finding(f"R² {np.nan:.3f}.").data == f'<div class="finding {tables.NO_TEX}"><p>R² –.</p></div>'
    assert (si(np.nan), times(np.nan)) == ("–", "– times")


def test_cells_of_every_format_are_readable():
    table = pd.DataFrame({"wide": [np.inf, 1e300, 0.5], "ends": ["0.1 – inf", "nan", "0.1 – 0.2"]})
    html = tables.styled(table, wide="wide|.4f", ends="interval")
    assert cells(html)[1:] == [["–", "0.1 – –"], ["1e+300", "–"], ["0.5000", "0.1 – 0.2"]]
    assert cells(tables.facts(speed=f"{np.inf:,.0f} pairs/s"))[0] == ["speed", "– pairs/s"]


def test_an_interval_without_an_upper_end_says_so():
    rows = pd.DataFrame({"kind": "new_run", "lo": [0.1, 0.1, np.nan], "hi": [np.inf, 0.2, np.nan]})
    assert new_run_forecasts(rows)["interval"].tolist() == ["0.1000 – no limit", "0.1000 – 0.2000", "–"]


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """Three fitted rungs, so that laws alone have no limit; constant curves; a constant and a huge metric."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    rng = np.random.default_rng(0)
    laws = {
        "nDCG@10": lambda N, D: 0.45 - 4 * N**-0.3 + rng.normal(0, 1e-4),
        "CE64": lambda N, D: 0.8 + 9 * N**-0.3,  # the same at every exposure
        "P@10": lambda N, D: 0.2,
        "loss": lambda N, D: 1e250 * N**-0.3,
    }
    rows = [
        {"objective": "listwise", "rung": rung, "params": 4 * N, "params_non_embedding": N, "exposure": D,
         "collection": "dev", "metric": metric, "value": law(N, D)}
        for metric, law in laws.items() for rung, N in SIZES.items() for D in (8e4, 1.6e5, 3.2e5)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "ladder.csv", index=False)
    (tmp_path / "mine.yaml").write_text(
        "measurements: ladder.csv\nheld_out: {rungs: [400m]}\nforecasting: {draws: 100}\n"
    )
    return load_study(tmp_path / "mine.yaml")


def test_no_page_and_no_table_holds_what_cannot_be_read(strange):
    fitted = fit_study(strange)
    sealed = seal_study(strange, fitted)
    scored = score_study(strange, fitted)
    shown, past, allocation = shown_series(strange, fitted), past_of_averages(fitted), allocate_study(strange)
    analyses = forecast_universes(strange, fitted)
    index = index_page(strange)
    exponents, compared = allocation.exponents, allocation.equal_compute
    pages = [
        fit_page.sealed_table(sealed),
        fit_page.left_out_table(series_left_out(strange)),
        fit_page.judged_table(fitted),
        fit_page.coefficients_table(shown),
        fit_page.data_laws_table(shown),
        forecast_page.baselines_table(scored),
        forecast_page.forecasts_table(scored),
        allocate_page.exponents_table(exponents),
        allocate_page.optima_table(strange, allocation.optima),
        allocate_page.equal_compute_table(strange, compared),
        allocate_page.parabola_table(allocation.parabolas),
        next_runs.next_runs_table(strange, allocation.next_runs),
        allocate_page.budget_table(strange, allocation.within_budget),
        allocate_page.budget_table(strange, allocation.least_cost),
        planner(strange, allocation),
        tables.finding(
            fit_page.sealed_sentence(sealed),
            fit_page.average_sentence(fitted),
            fit_page.noise_sentence(fitted),
            fit_page.past_sentence(past),
            forecast_page.forecasting_sentence(strange, scored),
            forecast_page.comparison_sentence(scored),
            forecast_page.multiverse_sentence(analyses),
            allocate_page.allocation_sentence(strange, exponents, compared),
            *allocate_page.verdict_sentences(exponents),
            *allocate_page.within_budget_sentences(strange, allocation.within_budget),
            *allocate_page.least_cost_sentences(strange, allocation.least_cost),
        ),
    ]
    texts = [page.data for page in pages] + [*index["answer"], index["forecast_table"], *index["notes"]]
    for text in texts:
        assert not UNREADABLE.search(re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)), text
    laws = [row["R²"] for row in records(fit_page.data_laws_table(shown)) if row["metric"] == "CE64"]
    assert laws == ["–"] * 3
    for file in strange.folder.rglob("*.csv"):
        assert not re.search(r"(^|,)-?(inf|nan)(,|$)", file.read_text(), flags=re.MULTILINE), file
    json.loads(paths.fits_file(strange.folder).read_text(), parse_constant=pytest.fail)
    assert series_left_out(strange).set_index("metric")["reason"].to_dict() == {
        "P@10": "P@10 is 0.2 in every run, so no law says more than that",
        "loss": f"loss reaches {1e250 * 3.9e6**-0.3:.3g}, more than any metric does: correct its unit",
    }
