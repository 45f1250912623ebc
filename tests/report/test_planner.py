"""The planner: its script and laws/allocation.py give the same numbers, and the page stays small and safe."""

import json
import re
import shutil
import subprocess
from functools import cache

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import laws
from rankscale_utils.laws import FORWARD, Life, Reach, within_budget
from rankscale_utils.report.planner import REACH, sample, widget

SIZES, EXPOSURES = (4e3, 1.2e4, 3.6e4, 1.1e5), np.geomspace(5e3, 1.6e5, 6)
COST = laws.Cost.from_ladder(SIZES, [5e5, 1.2e6, 3e6, 1.2e7])
PLAN = {"budget": 1e-4, "queries": 1e6, "depth": 100, "training_price": 1.4, "serving_price": 0.7}
TRUTHS = {
    "rising": (laws.joint_law(True, (0.0, 0.8)), (0.45, 1.5, 0.35, 3.0, 0.3)),
    "falling": (laws.joint_law(False), (0.2, 6.0, 0.35, 12.0, 0.3)),
    "Kaplan": (laws.kaplan_law(True, (0.0, 0.8)), (0.6, 3.0, 0.3, 40.0, 0.25)),
}


@cache
def simulated(truth: str, seeds: int = 3) -> laws.Average:
    """The average of laws over a ladder that follows one, with runs of a level of their own."""
    law, coefficients = TRUTHS[truth]
    rng, runs = np.random.default_rng(0), []
    for N in SIZES:
        for seed in range(seeds):
            noise = rng.normal(0, 0.004) + rng.normal(0, 0.002, len(EXPOSURES))
            value = law.predict(np.array(coefficients), N, EXPOSURES) + noise
            runs.append(
                pd.DataFrame({"run": f"{N:g}-{seed}", "rung": f"{N:g}", "N": N, "D": EXPOSURES, "value": value})
            )
    scale = "arcsine" if law.rising else "gap"
    series = laws.Series({"objective": "listwise"}, pd.concat(runs), law.rising, law.limits, scale)
    (average,) = laws.averages([series], laws.known(), 200)
    return average


def rows(average: laws.Average) -> pd.DataFrame:
    return average.series.table


def life_of(plan: dict[str, float]) -> Life:
    prices = {name: plan[name] for name in ("training_price", "serving_price")}
    return Life(annotation=0, texts=plan["queries"] * plan["depth"], text_share=FORWARD, **prices)


LIFE = life_of(PLAN)


def expected_of(average: laws.Average, life: Life, budget: float) -> pd.Series:
    few = sample(average, 240)
    return within_budget(few, COST, life, budget, Reach.of(rows(average))).iloc[0]


def html_of(average: laws.Average, plan: dict[str, float] = PLAN, name: str = "listwise: nDCG@10") -> str:
    return widget([(name, average, rows(average), COST)], life_of(plan), plan, 0.95).data


def shown(html: str, folder) -> tuple[dict[str, list[float]], str]:
    """Open a page in a browser; return the numbers it shows and its text."""
    if not (browser := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium here to run the planner's script in")
    page = folder / "planner.html"
    page.write_text(f"<!doctype html><meta charset=utf-8>{html}")
    headless = "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}", "--dump-dom"
    done = subprocess.run([browser, *headless, page.as_uri()], capture_output=True, text=True, timeout=120)
    cells = re.findall(r'<dd data-of="(\w+)" data-numbers="([^"]*)">', done.stdout)
    return {name: [float(number) for number in numbers.split()] for name, numbers in cells}, done.stdout


def agree(numbers: dict[str, list[float]], expected: pd.Series) -> None:
    assert set(numbers) == {"size", "exposure", "value", "training", "serving"}
    for name, found in numbers.items():
        close = 2e-4 if name == "value" else 0.03  # quality is flat around its best size
        assert found == pytest.approx([expected[name], expected[f"{name}_lo"], expected[f"{name}_hi"]], rel=close), name


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("plan", [PLAN, PLAN | {"queries": 0, "serving_price": 0}], ids=["", "unserved"])
def test_the_script_finds_what_python_finds(truth, plan, tmp_path):
    average = simulated(truth)
    numbers, text = shown(html_of(average, plan), tmp_path)
    agree(numbers, expected_of(average, life_of(plan), 1e-4))
    assert "<polyline" in text
    assert not re.search("NaN|undefined|Infinity", text.split("<script>")[0].split("application/json")[0])


@pytest.mark.parametrize("truth", TRUTHS)
def test_a_sample_says_nearly_what_the_sealed_forecast_says(truth):
    average = simulated(truth)
    at = pd.DataFrame({"N": [1.1e5, 3.3e5], "D": [1.6e5, 1.6e5]})
    few, all_draws = (one.forecast(at).query("kind == 'new_run'") for one in (sample(average, 240), average))
    assert sum(len(made.theta) for made in sample(average, 240).posteriors.values()) <= 260
    reach = (all_draws["hi"] - all_draws["lo"]).to_numpy()
    assert (np.abs(few["forecast"] - all_draws["forecast"]) < 0.02 * reach).all()
    assert (np.abs(few[["lo", "hi"]].to_numpy() - all_draws[["lo", "hi"]].to_numpy()) < 0.05 * reach[:, None]).all()


def test_the_widget_is_small_whatever_it_holds():
    average = simulated("rising", seeds=1)
    series = [(f"series {n}", average, rows(average), COST) for n in range(12)]
    html = widget(series, LIFE, PLAN, 0.95).data
    data = re.search(r'application/json">(.*?)</script>', html).group(1)
    assert len(data) < 120_000
    assert len(html) - len(data) < 24_000
    assert len(json.loads(data)["series"]) == 12
    assert "://" not in html  # no network


def test_names_cannot_end_the_script(tmp_path):
    name = "</script><b>mine</b>: nDCG@10"
    html = html_of(simulated("rising", seeds=1), name=name)
    assert html.count("</script>") == 2
    numbers, text = shown(html, tmp_path)
    assert numbers["size"]
    assert "&lt;b&gt;mine&lt;/b&gt;" in text


def test_without_scripts_a_sentence_says_where_to_look():
    html = html_of(simulated("rising", seeds=1))
    assert "tables above" in re.search("<noscript>(.*?)</noscript>", html).group(1)
    assert '<div class="live" hidden>' in html


MOVE = """<script>
for (const [name, place] of Object.entries(%s)) document.querySelector(`[name=${name}]`).value = place;
document.querySelector(".planner").dispatchEvent(new Event("input"));
</script>"""


@pytest.mark.parametrize("queries", [1e7, 0])
def test_sliders_move_the_optimum(queries, tmp_path):
    other, moved = simulated("falling"), simulated("rising")
    dearer = laws.Cost(COST.log_sizes, tuple(np.log(3) + np.array(COST.log_flops)))  # of another family
    series = [("other", other, rows(other), dearer), ("moved", moved, rows(moved), COST)]
    html = widget(series, LIFE, PLAN, 0.95).data
    places = {"series": 1, "budget": 20, "queries": 20 if queries else -100, "depth": -20, "training_price": 20,
              "serving_price": -20}  # fmt: skip
    numbers, text = shown(html + MOVE % json.dumps(places), tmp_path)
    life = life_of({"queries": queries, "depth": 10, "training_price": 14, "serving_price": 0.07})
    agree(numbers, expected_of(moved, life, 1e-3))
    assert ("10 million" in text) == bool(queries)
    assert ("none</b>" in text) == (not queries)


def ends_of(html: str, name: str) -> tuple[int, int]:
    low, high = re.search(f'name="{name}" min="(-?\\d+)" max="(-?\\d+)"', html).groups()
    return int(low), int(high)


ENDS = [(name, end) for name in ("budget", *REACH) for end in (0, 1)]


@pytest.mark.parametrize("truth", ["rising", "falling"])
@pytest.mark.parametrize(("name", "end"), ENDS)
def test_at_its_ends_a_slider_stays_within_what_the_metric_can_be(truth, name, end, tmp_path):
    average = simulated(truth)
    html = html_of(average)
    place = ends_of(html, name)[end]
    numbers, text = shown(html + MOVE % json.dumps({name: place}), tmp_path)
    number = PLAN[name] * 10 ** (place / 20) if (name, end) != ("queries", 0) else 0
    plan = PLAN | {name: float(f"{number:.2g}")}
    expected = expected_of(average, life_of(plan), plan["budget"])
    if np.isnan(expected["size"]):
        assert not any(numbers.values())
        assert "Not told by these runs" in text
        return
    agree(numbers, expected)
    low, high = average.series.limits
    assert low <= numbers["value"][1] <= numbers["value"][0] <= numbers["value"][2] <= high
    assert numbers["size"][2] <= 10 * SIZES[-1] * 1.001
    assert numbers["exposure"][2] <= 10 * EXPOSURES[-1] * 1.001
    assert not re.search("NaN|undefined|Infinity", text.split("<script>")[0].split("application/json")[0])


def test_what_no_size_and_exposure_cost_is_not_told(tmp_path):
    average = simulated("rising")
    html = html_of(average, PLAN | {"budget": 1e6})
    numbers, text = shown(html + MOVE % json.dumps({"budget": 0}), tmp_path)
    assert not any(numbers.values())
    assert "Not told by these runs" in text


@pytest.mark.parametrize("budget", [1e-9, 1e-4, 1e6])
def test_the_planner_opens_at_the_nearest_budget_that_has_an_answer(budget, tmp_path):
    average, plan = simulated("rising"), PLAN | {"budget": budget}
    html = html_of(average, plan)
    place = int(re.search(r'name="budget" [^>]*value="(-?\d+)"', html).group(1))
    assert (place == 0) == (budget == 1e-4)
    opened = budget if place == 0 else float(f"{budget * 10 ** (place / 20):.2g}")
    numbers, text = shown(html, tmp_path)
    agree(numbers, expected_of(average, life_of(plan), opened))
    assert "Not told by these runs" not in text.split("<script>")[0]
    beyond = budget * 10 ** ((place + np.sign(place) * -2) / 20)
    assert place == 0 or np.isnan(expected_of(average, life_of(plan), beyond)["size"])


def test_a_budget_of_which_serving_takes_nearly_all_has_an_answer(tmp_path):
    average = simulated("rising")
    plan = PLAN | {"queries": 1e9, "depth": 100, "serving_price": 1.4}
    life = life_of(plan)
    served = float(np.exp(life.log_total(COST, np.log(SIZES[-2]), np.log(EXPOSURES[-1]))))
    numbers, _ = shown(html_of(average, plan | {"budget": served}), tmp_path)
    agree(numbers, expected_of(average, life, served))
    assert numbers["serving"][0] > 0.99 * served
    assert numbers["size"][0] == pytest.approx(SIZES[-2], rel=0.01)
