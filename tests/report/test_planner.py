"""The planner: its script and laws/lifetime.py give the same numbers, and the page stays small and safe."""

import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from rankscale_utils import laws
from rankscale_utils.laws import FORWARD, Life, within_budget
from rankscale_utils.report.planner import sample, widget

SIZES, EXPOSURES = (4e3, 1.2e4, 3.6e4, 1.1e5), np.geomspace(5e3, 1.6e5, 6)
COST = laws.Cost.from_ladder(SIZES, [5e5, 1.2e6, 3e6, 1.2e7])
PLAN = {"budget": 0.01, "queries": 1e6, "depth": 100, "training_price": 1.4, "serving_price": 0.7}
LAWS = {
    "rising": (laws.joint_law(True, (0.0, 0.8)), (0.45, 1.5, 0.35, 3.0, 0.3)),
    "falling gap": (laws.joint_law(False, scale="gap"), (-1.5, 6.0, 0.35, 12.0, 0.3)),
    "rising gap": (laws.joint_law(True, (0.0, 0.8), "gap"), (1.6, 6.0, 0.35, 12.0, 0.3)),
    "Kaplan": (laws.kaplan_law(True, (0.0, 0.8)), (0.6, 3.0, 0.3, 40.0, 0.25)),
    "rising, noise even on the arcsine": (laws.joint_law(True, (0.0, 0.8)), (0.45, 1.5, 0.35, 3.0, 0.3)),
}
SCALE_OF = {
    "falling gap": "gap",
    "rising gap": "gap",
    "rising, noise even on the arcsine": "arcsine",
}


def simulated(law: laws.Law, truth: tuple[float, ...], seeds: int = 3, scale: str = "value") -> laws.Draws:
    """Draws of a ladder that follows a law, with runs of a level of their own."""
    rng, runs = np.random.default_rng(0), []
    for N in SIZES:
        for seed in range(seeds):
            noise = rng.normal(0, 0.004) + rng.normal(0, 0.002, len(EXPOSURES))
            value = law.predict(np.array(truth), N, EXPOSURES) + noise
            run = {"run": f"{N:g}-{seed}", "params_non_embedding": N, "exposure": EXPOSURES, "value": value}
            runs.append(pd.DataFrame(run))
    return laws.resample(laws.fit(law, pd.concat(runs), scale=scale), draws=100)


def rows(draws: laws.Draws) -> pd.DataFrame:
    return draws.fit.data


def life_of(plan: dict[str, float]) -> Life:
    prices = {name: plan[name] for name in ("training_price", "serving_price")}
    return Life(annotation=0, texts=plan["queries"] * plan["depth"], text_share=FORWARD, **prices)


LIFE = life_of(PLAN)


def html_of(draws: laws.Draws, plan: dict[str, float] = PLAN, name: str = "listwise: nDCG@10") -> str:
    return widget([(name, draws, rows(draws))], COST, life_of(plan), plan, 0.95).data


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


@pytest.mark.parametrize("form", LAWS)
@pytest.mark.parametrize("plan", [PLAN, PLAN | {"queries": 0, "serving_price": 0}], ids=["", "unserved"])
def test_the_script_finds_what_python_finds(form, plan, tmp_path):
    draws, life = simulated(*LAWS[form], scale=SCALE_OF.get(form, "value")), life_of(plan)
    numbers, text = shown(html_of(draws, plan), tmp_path)
    few = dataclasses.replace(draws, coefficients=sample(draws, COST, life, 0.01, 60))
    expected = within_budget(few, COST, life, 0.01).iloc[0]
    assert set(numbers) == {"size", "exposure", "value", "training", "serving"}
    for name, found in numbers.items():
        assert found == pytest.approx([expected[name], expected[f"{name}_lo"], expected[f"{name}_hi"]], rel=0.01), name
    assert "<polyline" in text
    assert not re.search("NaN|undefined|Infinity", text.split("<script>")[0].split("application/json")[0])


def test_a_sample_of_the_draws_gives_nearly_their_interval():
    draws = simulated(*LAWS["rising"])
    many = dataclasses.replace(draws, coefficients=np.tile(draws.coefficients, (5, 1)))
    few = dataclasses.replace(draws, coefficients=sample(many, COST, LIFE, 0.01, 60))
    assert few.coefficients.shape == (60, 5)
    ends = [np.log(within_budget(one, COST, LIFE, 0.01)[["size_lo", "size_hi"]].to_numpy()) for one in (few, many)]
    assert np.ptp(ends[0]) == pytest.approx(np.ptp(ends[1]), rel=0.05)
    assert len(sample(draws, COST, LIFE, 0.01, 1000)) == 100


def test_the_widget_is_small_whatever_it_holds():
    draws = simulated(*LAWS["rising"], seeds=1)
    series = [(f"series {n}", draws, rows(draws)) for n in range(12)]
    html = widget(series, COST, LIFE, PLAN, 0.95).data
    data = re.search(r'application/json">(.*?)</script>', html).group(1)
    assert len(data) < 25_000
    assert len(html) - len(data) < 20_000
    assert len(json.loads(data)["series"]) == 12
    assert "://" not in html  # no network


def test_names_cannot_end_the_script(tmp_path):
    name = "</script><b>mine</b>: nDCG@10"
    html = html_of(simulated(*LAWS["rising"], seeds=1), name=name)
    assert html.count("</script>") == 2
    numbers, text = shown(html, tmp_path)
    assert numbers["size"]
    assert "&lt;b&gt;mine&lt;/b&gt;" in text


def test_without_scripts_a_sentence_says_where_to_look():
    html = html_of(simulated(*LAWS["rising"], seeds=1))
    assert "tables above" in re.search("<noscript>(.*?)</noscript>", html).group(1)
    assert '<div class="live" hidden>' in html


MOVE = """<script>
for (const [name, place] of Object.entries(%s)) document.querySelector(`[name=${name}]`).value = place;
document.querySelector(".planner").dispatchEvent(new Event("input"));
</script>"""


@pytest.mark.parametrize("queries", [1e7, 0])
def test_sliders_move_the_optimum(queries, tmp_path):
    other, draws = simulated(*LAWS["falling gap"], scale="gap"), simulated(*LAWS["rising"])
    series = [("other", other, rows(other)), ("moved", draws, rows(draws))]
    html = widget(series, COST, LIFE, PLAN, 0.95).data
    places = {"series": 1, "budget": 20, "queries": 20 if queries else -100, "depth": -20, "training_price": 20,
              "serving_price": -20}  # fmt: skip
    numbers, text = shown(html + MOVE % json.dumps(places), tmp_path)
    moved = life_of({"queries": queries, "depth": 10, "training_price": 14, "serving_price": 0.07})
    few = dataclasses.replace(draws, coefficients=sample(draws, COST, LIFE, 0.01, 60))
    expected = within_budget(few, COST, moved, 0.1).iloc[0]
    for name, found in numbers.items():
        assert found == pytest.approx([expected[name], expected[f"{name}_lo"], expected[f"{name}_hi"]], rel=0.01), name
    assert ("10 million" in text) == bool(queries)
    assert ("none</b>" in text) == (not queries)
