"""The planner on the allocation page: sliders that move the optimum, without a server, a library or a network.

`report/template/planner.js` repeats the search of `laws/lifetime.py` on a sample of the draws; a test holds the two
together.
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
from rankscale_utils.laws import KaplanLaw, Life, best_sizes, search_window, spare_runs, t_quantile
from rankscale_utils.study.study import Study

from .page import TEMPLATE

MOST_DRAWS, ALL_DRAWS = 60, 360  # of a series, and of all together: a law is 45 bytes, and a page stays small
DIGITS = 5
REACH = {"budget": 80, "queries": 100, "depth": 40, "training_price": 40, "serving_price": 40}  # twentieths of decades
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
    series = [(f"{one.objective}: {one.metric}", one.joint, rows_of_series(one, table)) for one in shown]
    return widget(
        series,
        allocation.cost,
        life_of_reranker(study, table),
        {name: getattr(study.allocation, name) for name in SLIDER_LABELS} | {"budget": allocation.budget},
        study.forecasting.level,
        units_in_words(study),
    )


def widget(
    series: list[tuple[str, laws.Draws, pd.DataFrame]],
    cost: laws.Cost,
    life: Life,
    plan: dict[str, float],
    level: float,
    words: tuple[str, str] = ("non-embedding parameters", "pairs"),
) -> HTML:
    """Return the planner as one piece of HTML with its style, data and script.

    series: name, draws and measurements of each law to choose from. life: at the first plan. plan: where the
    sliders stand first, by their names in `SLIDER_LABELS`. words: what sizes and exposures count.
    """
    draws = max(2, min(MOST_DRAWS, ALL_DRAWS // len(series)))
    data = {
        "cost": {"sizes": _rounded(cost.log_sizes, 9), "flops": _rounded(cost.log_flops, 9)},
        "share": life.text_share,
        "plan": plan,
        "fallback": FALLBACK,
        "words": words,
        "series": [
            _entry(name, one, rows, sample(one, cost, life, plan["budget"], draws), level) for name, one, rows in series
        ],
    }
    written = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")  # never ends its element
    css, script = ((TEMPLATE / f"planner.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    controls = _markup(plan, level, words)
    return HTML(
        f'<div class="planner"><style>{css}</style><noscript><p>{escape(NO_SCRIPT)}</p></noscript>{controls}'
        f'<script type="application/json">{written}</script></div><script>{script}</script>'
    )


def sample(draws: laws.Draws, cost: laws.Cost, life: Life, budget: float, number: int) -> NDArray:
    """Return coefficients (number, k) spread evenly over the order of the draws' best sizes at the first plan.

    So few draws then give nearly the interval that all of them give. Where there are fewer draws, all of them.
    """
    order = np.argsort(best_sizes(draws, cost, life, budget), kind="stable")
    places = (np.arange(number) + 0.5) * len(order) / number
    return draws.coefficients[order[places.astype(int)] if number < len(order) else order]


def _entry(name: str, draws: laws.Draws, rows: pd.DataFrame, drawn: NDArray, level: float) -> dict:
    """Return a series as the script reads it; its first law is the fit, the others are the sampled draws."""
    law = draws.fit.law
    return {
        "name": name,
        "rising": law.rising,
        "kaplan": isinstance(law, KaplanLaw),
        "scale": law.scale,
        "residuals": draws.fit.scale,
        "limits": [limit if np.isfinite(limit) else None for limit in law.limits],
        "spare": spare_runs(draws.fit) > 0,
        "t": t_quantile(level, draws.degrees),
        "status": draws.fit.status,
        "window": search_window(draws.fit),
        "sizes": _ends(rows["N"]),
        "exposures": _ends(rows["D"]),
        "laws": [_rounded(draws.fit.vector, 9), *(_rounded(law, DIGITS) for law in drawn)],
    }


def _ends(values: pd.Series) -> list[float]:
    return [float(values.min()), float(values.max())]


def _rounded(numbers: NDArray | tuple[float, ...], digits: int) -> list[float]:
    return [float(f"{number:.{digits}g}") for number in numbers]


def _markup(plan: dict[str, float], level: float, words: tuple[str, str]) -> str:
    """Return the controls and the places where the script writes; hidden until it runs."""
    controls = "".join(_slider(name, label, plan[name]) for name, label in SLIDER_LABELS.items())
    shown = {"size": words[0], "exposure": f"training {words[1]}"} | SHOWN
    places = "".join(f'<dt>{label}</dt><dd data-of="{name}"><b></b><span></span></dd>' for name, label in shown.items())
    return (
        '<div class="live" hidden><div><label for="planner-series">objective and metric</label>'
        f'<select id="planner-series" name="series"></select>{controls}</div>'
        f'<div aria-live="polite"><dl>{places}</dl><div class="split" title="training | serving"><i></i></div>'
        '<p class="note"></p></div><figure><div class="curve"></div><figcaption><span></span>: the forecast '
        "against size, ending where serving alone costs all of it. Band and line around the optimum are "
        f"{level:.0%} intervals, as are the numbers below the estimates; shaded are the sizes measured."
        "</figcaption></figure></div>"
    )


def _slider(name: str, label: str, given: float) -> str:
    reach, start = REACH[name], 0 if given else -REACH[name]
    return (
        f'<label for="planner-{name}"><span>{label}</span><b></b></label>'
        f'<input type="range" id="planner-{name}" name="{name}" min="{-reach}" max="{reach}" value="{start}">'
    )
