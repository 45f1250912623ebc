"""What other people's ladders teach, and how well forecasts do on them: each family forecast by what the others taught.

    RANKSCALE_DATA=../shared/data python -m benchmarks.bank           # the table, written to reports/bank.md
    RANKSCALE_DATA=../shared/data python -m benchmarks.bank --learn   # and rankscale_utils/laws/known.json anew

A family is a set of models trained by one recipe; its tests are its series. The large rungs are held out, and what is
known before is learnt from all other families. Baselines: the size law of arXiv 2603.04816 (P0) and no change.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from rankscale_utils import laws
from rankscale_utils.laws import Belief, Known, Series, averages, known

ROOT = Path(__file__).resolve().parents[1]
KNOWN, REPORT = ROOT / "rankscale_utils" / "laws" / "known.json", ROOT / "reports" / "bank.md"
TASKS = 16  # of a family that has more: the first ones by a fixed shuffle, one of each benchmark
TOGETHER = 12  # series of a study
ROUNDS, DRAWS = 2, 1000
WITHIN = 0.6  # of a spread, by which series of one study differ: assumed, as short ladders hardly tell it
LEAST_SPREAD = 0.5  # of a logarithm over families: so few of them may all be alike by chance
CEILING = 0.6666  # of MS MARCO dev's first hundred candidates: no reranking is better
DECODER = ["80M", "160M", "330M", "0.6B", "1.7B", "4B", "8B", "14B"]
ENCODERS = ("arctic", "e5", "bge_en_v15", "gte", "gtr")
ETTIN = ["17m", "32m", "68m", "150m", "400m", "1b"]


@dataclass(frozen=True)
class Design:
    """Rungs that are fitted, and those that are forecast."""

    fitted: tuple[str, ...]
    held_out: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """Series with all their rungs, and how they are cut."""

    series: list[Series]
    designs: list[Design]
    source: str
    mean: Series | None = None  # over all tests of the family, also those that are not among its series


def embedding_models(data: Path, name: str, designs: Sequence[Design]) -> Family:
    """A family of embedding models by size; tests whose values are 0 or 1 somewhere are left out."""
    table = pd.read_csv(data / "ladders" / f"mteb_{name}.csv")
    sizes = table.groupby("rung")["params"].first().sort_values()
    wide = table.pivot_table(index="collection", columns="rung", values="value").dropna()[sizes.index]
    wide = wide[((wide > 0) & (wide < 1)).all(axis=1)]
    mean = wide.mean()
    wide = wide.iloc[np.random.default_rng(0).permutation(len(wide))]
    wide = wide[~wide.index.str.split("/").str[0].duplicated()].iloc[:TASKS]
    series = []
    for test, values in [*wide.iterrows(), ("mean", mean)]:
        rows = pd.DataFrame({"rung": sizes.index, "N": sizes.to_numpy(float), "D": 1.0, "value": values.to_numpy()})
        labels = {"objective": name, "metric": "nDCG@10", "collection": test}
        series.append(Series(labels, rows.assign(run=rows["rung"]), True, (0.0, 1.0)))
    return Family(series[:-1], list(designs), f"ladders/mteb_{name}.csv", series[-1])


def rerankers(data: Path) -> Family:
    """The Ettin rerankers of one recipe, two means over many tests."""
    table = pd.read_csv(data / "ladders" / "ettin_rerankers.csv")
    series = [
        Series(
            {"objective": "ettin", "metric": "nDCG@10", "collection": test},
            rows.assign(run=rows["rung"], N=rows["params_non_embedding"].astype(float), D=1.0),
            True,
            (0.0, 1.0),
        )
        for test, rows in table.groupby("collection", sort=False)
    ]
    return Family(series, _of_ettin(), "ladders/ettin_rerankers.csv")


def cross_encoders(data: Path) -> Family:
    """P0's cross-encoders, checkpoints averaged by ten as its protocol has them."""
    table = pd.read_csv(data / "published" / "p0_measurements.csv")
    table["run"] = table["objective"] + "-" + table["rung"]
    series = []
    for (objective, metric), raw in table.groupby(["objective", "metric"], sort=False):
        rows = raw.assign(N=raw["params_non_embedding"].astype(float), D=raw["exposure"].astype(float))
        rows = laws.averaged(rows[["run", "rung", "N", "D", "exposure", "value"]], 10, 0.1)
        entropy = metric.startswith("CE")
        limits = (0.0, np.inf) if entropy else (0.0, CEILING / 10 if metric == "P@10" else CEILING)
        scale = "gap" if entropy else "arcsine"
        series.append(Series({"objective": objective, "metric": metric}, rows, not entropy, limits, scale))
    return Family(series, _of_ettin(), "published/p0_measurements.csv")


def language_models(data: Path) -> Family:
    """Step Law's language models: at every size and exposure the best loss of its sweep of learning rate and batch."""
    table = pd.read_csv(data / "ladders" / "steplaw_dense.csv")
    best = table.groupby(["N", "D"], as_index=False)["loss"].min()
    best["rung"] = best["N"].map("{:.0f}".format)
    rows = pd.DataFrame({"rung": best["rung"], "run": best["rung"] + "-" + best["D"].map("{:.0f}".format)})
    rows = rows.assign(N=best["N"].astype(float), D=best["D"].astype(float), value=best["loss"])
    series = Series({"objective": "language model", "metric": "loss"}, rows, False, (0.0, np.inf), "gap")
    rungs = tuple(rows.sort_values("N")["rung"].unique())
    return Family([series], [Design(rungs[:-1], rungs[-1:])], "ladders/steplaw_dense.csv")


def _of_ettin() -> list[Design]:
    return [Design(tuple(ETTIN[:4]), ("400m", "1b")), Design(tuple(ETTIN[:3]), ("150m", "400m", "1b"))]


def bank(data: Path) -> dict[str, Family]:
    """All families by name."""
    decoder = [
        Design(tuple(DECODER[:5]), ("4B", "8B", "14B")),
        Design(tuple(DECODER[:3]), ("1.7B", "4B")),
        Design(tuple(DECODER[2:6]), ("8B", "14B")),
    ]
    families = {"F2LLM, embeddings": embedding_models(data, "f2llm_v2", decoder)}
    for name in ENCODERS:
        family = embedding_models(data, name, [])
        rungs = tuple(family.series[0].table["rung"])
        enough = [Design(rungs[:-1], rungs[-1:])] if len(rungs) > 3 else []
        families[f"{name}, embeddings"] = replace(family, designs=enough)
    others = {"Ettin, rerankers": rerankers, "P0, cross-encoders": cross_encoders, "Step Law, losses": language_models}
    return families | {name: read(data) for name, read in others.items()}


def learnt(families: Sequence[Family], start: Known) -> Known:
    """What ladders taught, every family counting alike: expectation and maximisation of the beliefs' moments."""
    found = start
    for _ in range(ROUNDS):
        moments = [_moments(family, found) for family in families]
        beliefs = {}
        for name in found.beliefs:
            told = [np.array(of_family[name]) for of_family in moments if of_family.get(name)]
            if not told:  # no other family has several exposures
                continue
            centres = np.array([each[:, 0].mean() for each in told])
            within = np.mean([each[:, 1].mean() + each[:, 0].var() for each in told])
            spread = float(np.sqrt(max(within + centres.var(), LEAST_SPREAD**2)))
            beliefs[name] = Belief(float(np.exp(centres.mean())), spread, WITHIN * spread)
        found = replace(found, **beliefs)
    return found


def _moments(family: Family, before: Known) -> dict[str, list[tuple[float, float]]]:
    """Mean and variance of every logarithm, for each series of a family, forms weighed by their evidence."""
    told: dict[str, list[tuple[float, float]]] = {}
    for series in family.series:
        (average,) = averages([series], before, DRAWS)
        for name in average.posteriors[next(iter(average.posteriors))].moments():
            parts = [(average.weights[form], made.moments()[name]) for form, made in average.posteriors.items()]
            mean = sum(weight * part[0] for weight, part in parts)
            square = sum(weight * (part[1] + part[0] ** 2) for weight, part in parts)
            told.setdefault(name, []).append((mean, square - mean**2))
    return told


def forecasts(name: str, family: Family, before: Known) -> pd.DataFrame:
    """Every held-out rung of every series, as a study of twelve series forecasts it, beside the truth and baselines."""
    rows = []
    for design in family.designs:
        for first in range(0, len(family.series), TOGETHER):
            whole = family.series[first : first + TOGETHER]
            seen = [replace(one, table=one.table[one.table["rung"].isin(design.fitted)]) for one in whole]
            for one, average in zip(whole, averages(seen, before, DRAWS), strict=True):
                at = one.last[one.last["rung"].isin(design.held_out)][["rung", "N", "D", "value"]]
                made = average.forecast(at)
                made = made[made["kind"] == "new_run"].assign(p0=_p0(average.series, at), rising=one.rising)
                trend = laws.trend(average.series, before)
                made = made.assign(predictable=trend.chance <= laws.CHANCE and not trend.turns)
                rows.append(made.assign(family=name, fitted=len(design.fitted), test=one.labels.get("collection")))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame()


def _p0(series: Series, at: pd.DataFrame) -> np.ndarray:
    """The size law of P0's protocol on the last row of each run."""
    rows = series.last.assign(params_nominal=series.last["N"], exposure=series.last["D"], seed=0, step=1)
    held = at.assign(params_nominal=at["N"], exposure=at["D"])
    return laws.p0_forecast("size", rows, held, last=1, rising=series.rising, draws=10)["forecast"].to_numpy()


def judged(made: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Errors, hits, widths and interval scores (shares of the value), a row a group."""
    truth = made["value"]
    outside = np.maximum(np.maximum(made["lo"] - truth, truth - made["hi"]), 0)
    rows = made.assign(
        ours=(made["forecast"] / truth - 1).abs(),
        p0=(made["p0"] / truth - 1).abs(),
        unchanged=(made["persistence"] / truth - 1).abs(),
        held=(made["lo"] <= truth) & (truth <= made["hi"]),
        width=(made["hi"] - made["lo"]) / truth,
        score=(made["hi"] - made["lo"] + 40 * outside) / truth,
        decisive=~made["persistence"].between(made["lo"], made["hi"]),
    )
    groups = rows.groupby(list(by), sort=False)
    table = groups.agg(forecasts=("value", "size"), held=("held", "mean"), decisive=("decisive", "mean"))
    for name in ("ours", "p0", "unchanged"):
        table[name] = groups[name].mean()
        table[f"{name}, median"] = groups[name].median()
    return table.assign(width=groups["width"].median(), score=groups["score"].mean()).reset_index()


def verdicts(made: pd.DataFrame) -> pd.DataFrame:
    """Whether series that were called unpredictable by their fitted rungs (`laws.trend`) are forecast worse.

    nearer: share of forecasts nearer to the truth than no change; improved: of rungs that were better than the largest
    fitted one; skill: 1 less the mean error over that of no change.
    """
    truth, unchanged = made["value"], made["persistence"]
    rows = made.assign(
        nearer=(made["forecast"] - truth).abs() < (unchanged - truth).abs(),
        improved=(truth > unchanged) == made["rising"],
    )
    table = judged(rows, ["predictable"]).set_index("predictable")
    table = table.join(rows.groupby("predictable")[["nearer", "improved"]].mean())
    return table.assign(skill=1 - table["ours"] / table["unchanged"]).sort_index(ascending=False).reset_index()


def main() -> None:
    """Judge, and learn anew where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learn", action="store_true", help="write known.json anew")
    learn = parser.parse_args().learn
    families = bank(Path(os.environ.get("RANKSCALE_DATA", ROOT.parent / "shared" / "data")))
    with threadpool_limits(limits=1):
        found = learnt([*families.values()], known()) if learn else known()
        made, means = [], []
        for name, family in families.items():
            if family.designs:
                others = [other for each, other in families.items() if each != name]
                before = learnt(others, found)
                made.append(forecasts(name, family, before))
                if family.mean is not None:
                    means.append(forecasts(name, replace(family, series=[family.mean]), before))
                print(judged(made[-1], ["family", "fitted", "rung"]).round(3).to_string(), flush=True)
    made = pd.concat(made, ignore_index=True)
    REPORT.write_text(f"{_report(made, found)}\n{_of_means(pd.concat(means))}", encoding="utf-8")
    if learn:
        held = float(judged(made.assign(all=1), ["all"])["held"].iloc[0])
        _write(found, held, len(made), families)


def _write(found: Known, held: float, forecast: int, families: dict[str, Family]) -> None:
    numbers = {
        name: {part: round(number, 4) for part, number in vars(belief).items()}
        for name, belief in found.beliefs.items()
    }
    numbers |= {"discrepancy": found.discrepancy, "held": {"0.95": round(held, 3)}, "forecasts": forecast}
    numbers["sources"] = {name: family.source for name, family in families.items()}
    KNOWN.write_text(json.dumps(numbers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _report(made: pd.DataFrame, found: Known) -> str:
    """The tables in Markdown."""
    every = judged(made.assign(all="all"), ["all"]).rename(columns={"all": "family"})
    table = pd.concat([judged(made, ["family", "fitted", "rung"]), judged(made, ["family"]), every])
    lines = ["| family | from rungs | rung | forecasts | ours | P0 | no change | held | width | decisive |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for row in table.to_dict("records"):
        errors = [f"{row[name]:.1%} ({row[f'{name}, median']:.1%})" for name in ("ours", "p0", "unchanged")]
        cells = [row["family"], _cell(row["fitted"], "d"), row["rung"] if row["rung"] == row["rung"] else "all"]
        cells += [str(row["forecasts"]), *errors, f"{row['held']:.0%}", f"{row['width']:.0%}", f"{row['decisive']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    beliefs = [
        f"| {name.replace('_', ' ')} | {belief.median:.3g} | {belief.spread:.2f} | {belief.within:.2f} |"
        for name, belief in found.beliefs.items()
    ]
    return (
        "# Forecasts on ladders that others trained\n\n"
        "Each family is forecast with what was learnt from all other families: mean (and median) absolute relative "
        "error of our average, of P0's size law and of no change; how many 95% intervals of one new run held the "
        "truth; their median width as a share of the value; and how many exclude no change. Written by "
        "`python -m benchmarks.bank`.\n\n" + "\n".join(lines) + "\n\n## What was learnt\n\n"
        "Medians, and standard deviations of natural logarithms: over all ladders, and among series of one family.\n\n"
        "| of | median | spread | within |\n|---|---|---|---|\n" + "\n".join(beliefs) + "\n\n"
        f"Discrepancy {found.discrepancy:g}.\n\n{_of_verdicts(made)}"
    )


def _of_verdicts(made: pd.DataFrame) -> str:
    """The table of verdicts in Markdown."""
    lines = [
        f"| {'predictable' if row['predictable'] else 'not predictable'} | {row['forecasts']} | {row['ours']:.1%} "
        f"({row['ours, median']:.1%}) | {row['unchanged']:.1%} ({row['unchanged, median']:.1%}) | {row['skill']:.2f} | "
        f"{row['nearer']:.0%} | {row['improved']:.0%} | {row['held']:.0%} |"
        for row in verdicts(made).to_dict("records")
    ]
    return (
        "## Can it be told before?\n\n"
        "A series is called predictable where its fitted rungs improve with size beyond their noise (pure noise looks "
        f"as good in at most {laws.CHANCE:.0%} of such ladders) and do not turn back. Mean (and median) errors of ours "
        "and of no change; skill of the means; how many forecasts were nearer than no change; how many held-out rungs "
        "were better than the largest fitted one; how many intervals held.\n\n"
        "| verdict | forecasts | ours | no change | skill | nearer | better | held |\n"
        "|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


def _of_means(means: pd.DataFrame) -> str:
    """The table of means over tests in Markdown."""
    every = judged(means.assign(family="all"), ["family"])
    lines = [
        f"| {row['family']} | {row['forecasts']} | {row['ours']:.1%} | {row['p0']:.1%} | {row['unchanged']:.1%} | "
        f"{row['held']:.0%} | {row['width']:.0%} | {row['decisive']:.0%} |"
        for row in pd.concat([judged(means, ["family"]), every]).to_dict("records")
    ]
    return (
        "## The mean over tests\n\n"
        "The mean over all tests of a family, forecast by a law of its own at the same rungs as above: mean errors.\n\n"
        "| family | forecasts | ours | P0 | no change | held | width | decisive |\n|---|---|---|---|---|---|---|---|\n"
        + "\n".join(lines)
        + "\n"
    )


def _cell(number: float, form: str) -> str:
    return "all" if number != number else f"{int(number):{form}}"


if __name__ == "__main__":
    main()
