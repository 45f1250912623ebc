"""What the page on annotated pairs says: sentences and tables of the results, never typed in."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML

from rankscale_utils import annotations
from rankscale_utils.allocation_findings import WIDE, count, dollars, doubt, times, wide, with_ends
from rankscale_utils.allocations import MORE_TRAINING, SIZES
from rankscale_utils.annotations import AnnotationLaws
from rankscale_utils.laws import Draws
from rankscale_utils.laws.annotations import coefficients
from rankscale_utils.study import Study
from rankscale_utils.tables import shown, si

ALONE = "The study has human pairs alone, so there is no source to compare them with."
NEARLY = 1.05  # a factor up to here is not worth a word
FEW = 0.025  # a share of draws up to here is not worth a word
SYMBOLS = {"asymptote": "δ", "A": "A", "alpha": "α", "B": "B", "beta": "β"}


def named(source: str) -> str:
    """Return a source's name as prose has it."""
    return source.replace("_", " ")


def ends(study: Study, found: AnnotationLaws) -> str:
    """Say where runs ended, and how many might have become better still."""
    seen, step = found.table["exposure"], study.training.groups.pairs_per_step
    last = study.annotations.exposures[-1] // step * step
    cut = found.table[seen >= last]
    said = f"{len(found.table)} fitted runs have their own ends at {seen.min():,.0f} to {seen.max():,.0f} pairs seen."
    if cut.empty:
        return said
    return (
        f"{said} {len(cut)} of them, on {cut['D'].min():,.0f} to {cut['D'].max():,.0f} annotated pairs, were best at "
        "the last of annotations.exposures: longer training might have lowered their entropy further."
    )


def steeper(table: pd.DataFrame) -> list[str]:
    """Say for every source whether its law falls faster than that of human pairs; table: `laws.annotations.steeper`."""
    if table.empty:
        return [ALONE]
    verdicts = {
        "steeper": "its law is steeper than that of human pairs.",
        "flatter": "its law is flatter than that of human pairs.",
        "undecided": "the interval holds zero, so neither law is shown to be steeper.",
    }
    return [
        f"{named(row['source'])}: β = {row['exponent']:.2f} against {row['reference_exponent']:.2f} of human pairs, a "
        f"difference of {row['difference']:+.2f} [{row['lo']:+.2f}, {row['hi']:+.2f}]; "
        + verdicts.get(row["verdict"], f"no verdict, as one of the laws is {row['verdict']}.")
        for row in table.to_dict("records")
    ]


def worth(table: pd.DataFrame) -> list[str]:
    """Say for every source how many of its pairs equal one human pair, where human pairs are few and where many."""
    if table.empty:
        return [ALONE]
    said = []
    for _, rows in table.groupby("source", sort=False):
        by_pairs = rows.sort_values("reference_pairs")
        said += [_worth(row) for row in by_pairs.iloc[[0, -1]].drop_duplicates().to_dict("records")]
    return said


def _worth(row: dict) -> str:
    source = named(row["source"])
    reached = f"the {row['quality']:.3f} nats that {count(row['reference_pairs'])} human pairs reach"
    doubted = row["law"] != "converged"
    if np.isnan(row["worth"]) and doubted:
        return f"Whether {source} pairs can reach {reached} is not told, as one of the laws is {row['law']}."
    if np.isnan(row["worth"]):
        some = f", though {row['reached']:.0%} of the resampled laws get there" if row["reached"] > FEW else ""
        return f"No number of {source} pairs reaches {reached}: their law levels off above{some}."
    far = f", {times(row['beyond'])} the most that were measured" if row["beyond"] > NEARLY else ""
    known = "" if row["hi"] <= WIDE * row["lo"] else " The runs hardly tell this number."
    return (
        f"At {reached}, one human pair is worth {_interval(row, 'worth', number)} {source} pairs: "
        f"{count(row['pairs'])} of them get there{far}.{known}"
        + (f" One of the laws is {row['law']}." if doubted else "")
    )


def number(value: float) -> str:
    """Return a number with three digits; – where there is none."""
    return "–" if np.isnan(value) else "no limit" if np.isinf(value) else f"{float(f'{value:.3g}'):,g}"


def forecasting(scored: pd.DataFrame) -> list[str]:
    """Say how the sealed forecasts of the most human pairs did, rung by rung, and how “no change” would have."""
    rows = annotations.chosen(scored)
    said = [
        f"{row['rung']} trained on {row['annotations']:,.0f} human pairs was forecast to reach {row['metric']} "
        f"{row['forecast']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}]; it {_reached(row)}."
        for row in rows.to_dict("records")
    ]
    known = rows[rows["actual"].notna()]
    law = annotations.least_believed(rows["status"])
    made = "" if law == "converged" else f" The law behind these forecasts is {law}."
    return [
        *said,
        f"{known['hit'].astype(bool).sum()} of {len(known)} {known['level'].iloc[0]:.0%} intervals held the truth (in "
        f"simulated studies of this design: {known['coverage'].mean():.0%}). “No change” from the most human pairs "
        f"that were fitted was nearer in {(known['skill'] < 0).sum()} of {len(known)}.{made}",
    ]


def _reached(row: dict) -> str:
    if np.isnan(row["actual"]):
        return "failed"
    return f"reached {row['actual']:.4f}, {'inside' if row['hit'] else 'outside'} the interval"


def joint(found: AnnotationLaws) -> str:
    """Say whether the joint law of size and human pairs can be believed."""
    status, rungs = annotations.joint_status(found), len(found.rungs)
    if found.joint is None:
        return f"The joint law is {status}."
    few = " With three annotations.rungs or more it could show how the curve bends in size." if rungs < 3 else ""
    return f"The joint law of {rungs} rungs and {len(found.human)} runs is {status}; R² {found.joint.fit.r2:.3f}.{few}"


def assumptions(study: Study, found: AnnotationLaws) -> str:
    """Say what annotation, training and inference are taken to cost, and where each number comes from."""
    if found.joint is None:
        return f"No budget can be divided: the joint law is {annotations.joint_status(found)}."
    given, life = study.allocation, annotations.life(study, found)
    chosen = annotations.budget(study, found)
    fixed = f", and {count(life.exposure)} pairs whatever their number" if life.exposure else ""
    source = "as the study sets it" if given.budget is not None else f"{MORE_TRAINING} times the dearest run's cost"
    return (
        f"Assumed unless the study says otherwise: ${given.annotation_price:g} a pair; ${given.training_price:g} for "
        f"1e18 FLOPs of training and ${given.serving_price:g} of serving ($1.4 is $2 an H100-hour at 4e14 FLOP/s); "
        f"{given.queries:,.0f} queries and {given.documents:,.0f} documents embedded over the system's life, a text at "
        "a sixth of the FLOPs of training on a pair. From the runs' own ends: training sees every annotated pair "
        f"{life.epochs:.1f} times{fixed}. The budget that sentences speak of is {dollars(chosen)} ({source})."
    )


def money(study: Study, found: AnnotationLaws, table: pd.DataFrame) -> list[str]:
    """Say for the budget what is best bought with it, where the money goes, and what inference changes."""
    if table.empty:
        return []
    mine = table[np.isclose(table["budget"], annotations.budget(study, found))].set_index("inference")
    row, free = mine.loc[True], mine.loc[False]
    sizes = SIZES[study.forecasting.size]
    return [
        f"{dollars(row['budget'])} are best spent on {with_ends(row, 'size', count)} {sizes} and "
        f"{with_ends(row, 'annotations', count)} human pairs, which reach {found.table['metric'].iloc[0]} "
        f"{with_ends(row, 'value', '{:.3f}'.format)}.{_beyond(row)}{wide(row)}{doubt(row['law'])}",
        f"Of this money {_share(row['annotation_dollars'] / row['budget'])} goes into annotation, "
        f"{dollars(row['training_dollars'])} into training and {dollars(row['inference_dollars'])} into inference.",
        f"Were inference free, the best would be {with_ends(free, 'size', count)} {sizes} and "
        f"{with_ends(free, 'annotations', count)} pairs: counting it makes the best model "
        f"{_factor(free['size'] / row['size'])} smaller.",
    ]


def _share(share: float) -> str:
    return "over 99.9%" if share > 0.999 else f"{share:.1%}"


def _factor(ratio: float) -> str:
    return "hardly" if ratio < NEARLY else times(ratio)


def _beyond(row: pd.Series) -> str:
    far = {"the largest model": row["size_beyond"], "the most pairs": row["annotations_beyond"]}
    said = " and ".join(f"{times(factor)} {most}" for most, factor in far.items() if factor > NEARLY)
    return f" That is {said} that any fitted run had." if said else ""


def _interval(row: Mapping, name: str, write: Callable[[float], str]) -> str:
    """Write a number and the interval lo to hi beside it."""
    return f"{write(row[name])} [{write(row['lo'])}, {write(row['hi'])}]"


def coefficient_table(drawn: Mapping[str, Draws], level: float, heading: str) -> HTML:
    """Return every law's coefficients with intervals beside them, a row a law."""
    rows = []
    for name, mine in coefficients(drawn, level=level).groupby("source", sort=False):
        first = mine.iloc[0]
        written = {one["coefficient"]: _interval(one, "value", number) for one in mine.to_dict("records")}
        rows.append(
            {"name": named(name), **written, "r2": first["r2"], "runs": first["runs"], "status": first["status"]}
        )
    heads = {name: f"{symbol}|s" for name, symbol in SYMBOLS.items() if name in rows[0]}
    return shown(pd.DataFrame(rows), name=heading, **heads, r2="R²|.3f", runs="runs|d", status="status")


def joint_table(found: AnnotationLaws, level: float) -> HTML:
    """Return the joint law's coefficients with intervals, a row a coefficient."""
    if found.joint is None:
        return HTML("")
    table = coefficients({"joint": found.joint}, level=level)
    written = {name: [number(value) for value in table[name]] for name in ("value", "lo", "hi")}
    coefficient = table["coefficient"].map(SYMBOLS)
    return shown(table.assign(**written, coefficient=coefficient), coefficient="joint law", value="value|s", lo="low|s",
                 hi="high|s")  # fmt: skip


def worth_table(table: pd.DataFrame) -> HTML:
    """Return `annotations.worth_of_pairs` as a page shows it."""
    if table.empty:
        return HTML("")
    rows = table.to_dict("records")
    worth = [_interval(row, "worth", number) if row["status"] == "reachable" else "–" for row in rows]
    beyond = [number(row["beyond"]) for row in rows]
    return shown(table.assign(worth=worth, beyond=beyond, source=table["source"].map(named)), source="source",
                 quality="nats|.3f", reference_pairs="human pairs|si", pairs="its pairs|si", beyond="of measured|s",
                 worth="worth of a human pair|s", reached="draws|.0%")  # fmt: skip


def forecast_table(scored: pd.DataFrame) -> HTML:
    """Return the scored forecasts of one new run, the joint law's and the data laws'."""
    rows = scored[scored["kind"] == "new_run"]
    rows = rows.assign(interval=[f"{row.lo:.4f} – {row.hi:.4f}" for row in rows.itertuples()],
                       hit=[bool(hit) if pd.notna(hit) else np.nan for hit in rows["hit"]],
                       law=rows["law"].map({"Kaplan": "joint", "data": "its own"}))  # fmt: skip
    return shown(rows, rung="rung", law="law", forecast="forecast|.4f", interval="interval", actual="measured|.4f",
                 error="error|+.4f", hit="inside", coverage="in simulation|.0%", skill="skill|+.2f")  # fmt: skip


def budget_table(table: pd.DataFrame) -> HTML:
    """Return `annotations.budget_table` as a page shows it."""
    if table.empty:
        return HTML("")
    columns = {"size": si, "annotations": si, "value": "{:.3f}".format}
    rows = table.to_dict("records")
    written = {name: [with_ends(row, name, write) for row in rows] for name, write in columns.items()}
    for name in ("budget", "training_dollars", "inference_dollars"):
        written[name] = [dollars(value) for value in table[name]]
    written["inference"] = ["counted" if counted else "free" for counted in table["inference"]]
    return shown(table.assign(**written), budget="budget|s", inference="inference", size="best size|s",
                 annotations="human pairs|s", value="forecast|s", training_dollars="training|s",
                 inference_dollars="serving|s")  # fmt: skip
