"""The planner on the allocation page: sliders that move the optimum, without a server, a library or a network.

`report/template/planner.js` repeats the search of `laws/allocation.py` on a sample of the drawn laws, so that it says
of a size and an exposure nearly what the sealed forecast says; a test holds the two together.
"""

import json
from html import escape

import numpy as np
import pandas as pd
from IPython.display import HTML
from numpy.typing import NDArray

from rankscale_utils import laws
from rankscale_utils.analysis.allocate import AllocationResults
from rankscale_utils.analysis.budgets import life_of_reranker
from rankscale_utils.analysis.compute import allocated, rows_of_series, units_in_words
from rankscale_utils.laws import Life, Reach
from rankscale_utils.study.study import Study

from .page import TEMPLATE

MOST_DRAWS, ALL_DRAWS = 240, 960  # of a series, and of all together: a draw is 65 bytes, and a page stays small
DIGITS = 5
FORMS = [*laws.WITH_OPTIMUM, "sigmoid"]  # that the script knows
TWENTIETHS = 20  # of a decade: a slider's step
ROUNDING = 0.5  # steps that a slider's number, told with two digits, may be off
REACH = {"queries": 100, "depth": 40, "training_price": 40, "serving_price": 40}  # steps to either side
FALLBACK = {"queries": 1e7, "serving_price": 1.4}  # where a slider turns when the study's own number is 0
SLIDER_LABELS = {
    "budget": "total budget",
    "queries": "queries over the system's life",
    "depth": "candidates a query",
    "training_price": "price of 1e18 training FLOPs",
    "serving_price": "price of 1e18 serving FLOPs",
}
SHOWN = {
    "value": "forecast value",
    "training": "spent on training",
    "serving": "spent on serving",
}
NO_SCRIPT = (
    "The planner needs a browser that runs its script; the tables above hold the optimum at the study's own budget, "
    "volume and prices."
)


def planner(study: Study, allocation: AllocationResults) -> HTML:
    """Return the planner of the headline metric and the entropy, one choice a series; a sentence where there is none.

    The allocation's measurements tell how far the sizes and exposures that were measured reach.
    """
    shown, table = allocated(study, allocation.fitted), allocation.table
    if not shown:
        return HTML("<p>No series has a joint law of size and exposure, so there is nothing to plan with.</p>")
    series = [
        (f"{one.objective}: {one.metric}", one.average, rows_of_series(one, table), allocation.costs[one.objective])
        for one in shown
    ]
    return widget(
        series,
        life_of_reranker(study, table),
        {name: getattr(study.allocation, name) for name in SLIDER_LABELS} | {"budget": allocation.budget},
        study.forecasting.level,
        units_in_words(study),
        study.evaluation.depth if study.runs else 0,
    )


def widget(
    series: list[tuple[str, laws.Average, pd.DataFrame, laws.Cost]],
    life: Life,
    plan: dict[str, float],
    level: float,
    words: tuple[str, str] = ("non-embedding parameters", "pairs"),
    measured_depth: int = 0,
) -> HTML:
    """Return the planner as one piece of HTML with its style, data and script.

    series: name, laws, measurements and cost of training of each series to choose from. life: at the first plan. plan:
    where the sliders stand first, by their names in `SLIDER_LABELS`. words: what sizes and exposures count.
    measured_depth: candidates a query at which quality was measured; 0 where that is not known.
    """
    draws = min(MOST_DRAWS, ALL_DRAWS // len(series))
    reaches = [Reach.of(average.series.table) for _, average, _, _ in series]
    data = {
        "share": life.text_share,
        "plan": plan,
        "fallback": FALLBACK,
        "words": words,
        "level": level,
        "measured_depth": measured_depth,
        "forms": FORMS,
        "with_optimum": laws.WITH_OPTIMUM,
        "series": [
            _entry(name, sample(average, draws), rows, cost, reach)
            for (name, average, rows, cost), reach in zip(series, reaches, strict=True)
        ],
    }
    written = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # never ends its element
    css, script = ((TEMPLATE / f"planner.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    told = [_told(reach, cost, life, plan["budget"]) for reach, (*_, cost) in zip(reaches, series, strict=True)]
    controls = _markup(plan, level, words, told)
    return HTML(
        f'<div class="planner"><style>{css}</style><noscript><p>{escape(NO_SCRIPT)}</p></noscript>{controls}'
        f'<script type="application/json">{written}</script></div><script>{script}</script>'
    )


def sample(average: laws.Average, number: int) -> laws.Average:
    """Return the average with about so many draws, which say at the largest fitted rung's end nearly what all say."""
    ends = average.series.last
    return average.thinned(number, ends["N"].max(), ends["D"].max())


def _told(reach: Reach, cost: laws.Cost, life: Life, budget: float) -> tuple[int, int]:
    """Return the places of the budget's slider between which a series' runs tell something at the first plan."""
    corners = zip(reach.sizes, reach.exposures, strict=True)
    totals = np.array([float(life.log_total(cost, *np.array(corner))) for corner in corners])
    low, high = (totals - np.log(budget)) / np.log(10) * TWENTIETHS
    return int(np.ceil(low + ROUNDING)), int(np.floor(high - ROUNDING))


def _entry(name: str, average: laws.Average, rows: pd.DataFrame, cost: laws.Cost, reach: Reach) -> dict:
    """Return a series as the script reads it."""
    series, draws = average.series, []
    for form, made in average.posteriors.items():
        share = average.weights[form] / len(made.theta)
        numbers = np.column_stack([np.full(len(made.theta), share), *made.doubts, made.theta])
        draws += [[FORMS.index(form), *_rounded(row, DIGITS)] for row in numbers]
    return {
        "name": name,
        "cost": {"sizes": _rounded(cost.log_sizes, 9), "flops": _rounded(cost.log_flops, 9)},
        "rising": series.rising,
        "scale": series.scale,
        "limits": [limit if np.isfinite(limit) else None for limit in series.limits],
        "reference": _rounded(np.log(average.series.reference), 9),
        "reach": [_rounded(reach.sizes, 9), _rounded(reach.exposures, 9)],
        "sizes": _ends(rows["N"]),
        "exposures": _ends(rows["D"]),
        "draws": draws,
    }


def _ends(values: pd.Series) -> list[float]:
    return [float(values.min()), float(values.max())]


def _rounded(numbers: NDArray | tuple[float, ...], digits: int) -> list[float]:
    return [float(f"{number:.{digits}g}") for number in numbers]


def _markup(plan: dict[str, float], level: float, words: tuple[str, str], told: list[tuple[int, int]]) -> str:
    """Return the controls and the places where the script writes; hidden until it runs.

    told: where the budget's slider stands within what each series' runs tell.
    """
    ends = min(0, *(low for low, _ in told)), max(0, *(high for _, high in told))
    reach = {"budget": ends} | {name: (-steps, steps) for name, steps in REACH.items()}
    start = {name: 0 if plan[name] else reach[name][0] for name in SLIDER_LABELS}
    start["budget"] = int(np.clip(0, *told[0]))  # the study's own, or the nearest one that has an answer
    controls = "".join(_slider(name, label, start[name], reach[name]) for name, label in SLIDER_LABELS.items())
    shown = {"size": words[0], "exposure": f"training {words[1]}"} | SHOWN
    places = "".join(f'<dt>{label}</dt><dd data-of="{name}"><b></b><span></span></dd>' for name, label in shown.items())
    return (
        '<div class="live" hidden><div><label for="planner-series">objective and metric</label>'
        f'<select id="planner-series" name="series"></select>{controls}</div>'
        f'<div aria-live="polite"><dl>{places}</dl><div class="split" title="training | serving"><i></i></div>'
        '<p class="note"></p></div><figure><div class="curve"></div><figcaption><span></span>: the forecast '
        "of one new run against size, as far as ten times what was fitted. Band and line around the optimum are "
        f"{level:.0%} intervals, as are the numbers below the estimates; shaded are the sizes measured."
        "</figcaption></figure></div>"
    )


def _slider(name: str, label: str, start: int, reach: tuple[int, int]) -> str:
    return (
        f'<label for="planner-{name}"><span>{label}</span><b></b></label>'
        f'<input type="range" id="planner-{name}" name="{name}" min="{reach[0]}" max="{reach[1]}" value="{start}">'
    )
