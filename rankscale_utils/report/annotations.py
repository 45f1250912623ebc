"""What the page 7_annotations shows: what annotated pairs are worth, by source."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML

from rankscale_utils.analysis import annotated_budgets
from rankscale_utils.analysis.annotated_budgets import annotation_budget
from rankscale_utils.analysis.annotation_laws import AnnotationLaws, joint_status, least_believed
from rankscale_utils.analysis.annotations import spoken_of
from rankscale_utils.analysis.budgets import MORE_TRAINING
from rankscale_utils.analysis.compute import SIZES
from rankscale_utils.study.study import Study

from . import tables
from .prose import WIDE, dollars, doubt, number, si, times, wide, with_ends

ALONE = "The study has human pairs alone, so there is no source to compare them with."
NEARLY = 1.05  # a factor up to here is not worth a word
FEW = 0.025  # a share of draws up to here is not worth a word
SYMBOLS = {"asymptote": "δ", "A": "A", "alpha": "α", "B": "B", "beta": "β"}


def source_in_words(source: str) -> str:
    """Return a source's name as prose has it."""
    return source.replace("_", " ")


def ends_sentence(study: Study, found: AnnotationLaws) -> str:
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


def steeper_sentence(table: pd.DataFrame) -> list[str]:
    """Say for every source whether its law falls faster than that of human pairs; table: `compare_exponents`."""
    if table.empty:
        return [ALONE]
    verdicts = {
        "steeper": "its law is steeper than that of human pairs.",
        "flatter": "its law is flatter than that of human pairs.",
        "undecided": "the interval holds zero, so neither law is shown to be steeper.",
    }
    return [
        f"{source_in_words(row['source'])}: β = {row['exponent']:.2f} against {row['reference_exponent']:.2f} of "
        f"human pairs, a difference of {row['difference']:+.2f} [{row['lo']:+.2f}, {row['hi']:+.2f}]; "
        + verdicts.get(row["verdict"], f"no verdict, as one of the laws is {row['verdict']}.")
        for row in table.to_dict("records")
    ]


def worth_sentence(table: pd.DataFrame) -> list[str]:
    """Say for every source how many of its pairs equal one human pair, where human pairs are few and where many."""
    if table.empty:
        return [ALONE]
    said = []
    for _, rows in table.groupby("source", sort=False):
        by_pairs = rows.sort_values("reference_pairs")
        said += [_worth(row) for row in by_pairs.iloc[[0, -1]].drop_duplicates().to_dict("records")]
    return said


def _worth(row: dict) -> str:
    source = source_in_words(row["source"])
    reached = f"the {row['quality']:.3f} nats that {si(row['reference_pairs'])} human pairs reach"
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
        f"{si(row['pairs'])} of them get there{far}.{known}" + (f" One of the laws is {row['law']}." if doubted else "")
    )


def annotations_forecast_sentence(scored: pd.DataFrame) -> list[str]:
    """Say how the sealed forecasts of the most human pairs did, rung by rung, and how “no change” would have."""
    rows = spoken_of(scored)
    said = [
        f"{row['rung']} trained on {row['annotations']:,.0f} human pairs was forecast to reach {row['metric']} "
        f"{row['forecast']:.4f} [{row['lo']:.4f}, {row['hi']:.4f}]; it {_reached(row)}."
        for row in rows.to_dict("records")
    ]
    known = rows[rows["actual"].notna()]
    law = least_believed(rows["status"])
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


def joint_sentence(found: AnnotationLaws) -> str:
    """Say whether the joint law of size and human pairs can be believed."""
    status, rungs = joint_status(found), len(found.rungs)
    if found.joint is None:
        return f"The joint law is {status}."
    few = " With three annotations.rungs or more it could show how the curve bends in size." if rungs < 3 else ""
    return f"The joint law of {rungs} rungs and {len(found.human)} runs is {status}; R² {found.joint.fit.r2:.3f}.{few}"


def life_prices_sentence(study: Study, found: AnnotationLaws) -> str:
    """Say what annotation, training and inference are taken to cost, and where each number comes from."""
    if found.joint is None:
        return f"No budget can be divided: the joint law is {joint_status(found)}."
    given, life = study.allocation, annotated_budgets.life(study, found)
    chosen = annotation_budget(study, found)
    fixed = f", and {si(life.fixed_exposure)} pairs whatever their number" if life.fixed_exposure else ""
    source = "as the study sets it" if given.budget is not None else f"{MORE_TRAINING} times the dearest run's cost"
    return (
        f"Assumed unless the study says otherwise: ${given.annotation_price:g} a pair; ${given.training_price:g} for "
        f"1e18 FLOPs of training and ${given.serving_price:g} of serving ($1.4 is $2 an H100-hour at 4e14 FLOP/s); "
        f"{given.queries:,.0f} queries and {given.documents:,.0f} documents embedded over the system's life, a text at "
        "a sixth of the FLOPs of training on a pair. From the runs' own ends: training sees every annotated pair "
        f"{life.epochs:.1f} times{fixed}. The budget that sentences speak of is {dollars(chosen)} ({source})."
    )


def money_sentence(study: Study, found: AnnotationLaws, table: pd.DataFrame) -> list[str]:
    """Say for the budget what is best bought with it, where the money goes, and what inference changes."""
    if table.empty:
        return []
    mine = table[np.isclose(table["budget"], annotation_budget(study, found))].set_index("inference")
    row, free = mine.loc[True], mine.loc[False]
    sizes = SIZES[study.forecasting.size]
    return [
        f"{dollars(row['budget'])} are best spent on {with_ends(row, 'size', si)} {sizes} and "
        f"{with_ends(row, 'annotations', si)} human pairs, which reach {found.table['metric'].iloc[0]} "
        f"{with_ends(row, 'value', '{:.3f}'.format)}.{_beyond(row)}{wide(row)}{doubt(row['law'])}",
        f"Of this money {_share(row['annotation_dollars'] / row['budget'])} goes into annotation, "
        f"{dollars(row['training_dollars'])} into training and {dollars(row['inference_dollars'])} into inference.",
        f"Were inference free, the best would be {with_ends(free, 'size', si)} {sizes} and "
        f"{with_ends(free, 'annotations', si)} pairs: counting it makes the best model "
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


def coefficient_table(coefficients: pd.DataFrame, by: str) -> HTML:
    """Return the coefficients of every source's law or every rung's with intervals beside them, a row a law."""
    rows = []
    for name, law in coefficients[coefficients["by"] == by].groupby("name", sort=False):
        written = {row["coefficient"]: _interval(row, "value", number) for row in law.to_dict("records")}
        rows.append(law.iloc[0][["r2", "runs", "status"]].to_dict() | written | {"name": source_in_words(name)})
    heads = {name: f"{symbol}|s" for name, symbol in SYMBOLS.items() if name in rows[0]}
    return tables.styled(pd.DataFrame(rows), name=by, **heads, r2="R²|.3f", runs="runs|d", status="status")


def joint_table(coefficients: pd.DataFrame) -> HTML:
    """Return the joint law's coefficients with intervals, a row a coefficient."""
    table = coefficients[coefficients["by"] == "joint"]
    if table.empty:
        return HTML("")
    written = {name: [number(value) for value in table[name]] for name in ("value", "lo", "hi")}
    coefficient = table["coefficient"].map(SYMBOLS)
    return tables.styled(
        table.assign(**written, coefficient=coefficient),
        coefficient="joint law",
        value="value|s",
        lo="low|s",
        hi="high|s",
    )


def worth_table(table: pd.DataFrame) -> HTML:
    """Return `worth_of_pairs` as a page shows it."""
    if table.empty:
        return HTML("")
    rows = table.to_dict("records")
    worth = [_interval(row, "worth", number) if row["status"] == "reachable" else "–" for row in rows]
    beyond = [number(row["beyond"]) for row in rows]
    return tables.styled(
        table.assign(worth=worth, beyond=beyond, source=table["source"].map(source_in_words)),
        source="source",
        quality="nats|.3f",
        reference_pairs="human pairs|si",
        pairs="its pairs|si",
        beyond="of measured|s",
        worth="worth of a human pair|s",
        reached="draws|.0%",
    )


def forecast_table(scored: pd.DataFrame) -> HTML:
    """Return the scored forecasts of one new run, the joint law's and the data laws'."""
    rows = scored[scored["kind"] == "new_run"]
    rows = rows.assign(
        interval=[f"{row.lo:.4f} – {row.hi:.4f}" for row in rows.itertuples()],
        hit=[bool(hit) if pd.notna(hit) else np.nan for hit in rows["hit"]],
        law=rows["law"].map({"Kaplan": "joint", "data": "its own"}),
    )
    return tables.styled(
        rows,
        rung="rung",
        law="law",
        forecast="forecast|.4f",
        interval="interval",
        actual="measured|.4f",
        error="error|+.4f",
        hit="inside",
        coverage="in simulation|.0%",
        skill="skill|+.2f",
    )


def split_table(table: pd.DataFrame) -> HTML:
    """Return `best_splits` as a page shows it."""
    if table.empty:
        return HTML("")
    columns = {"size": si, "annotations": si, "value": "{:.3f}".format}
    rows = table.to_dict("records")
    written = {name: [with_ends(row, name, write) for row in rows] for name, write in columns.items()}
    for name in ("budget", "training_dollars", "inference_dollars"):
        written[name] = [dollars(value) for value in table[name]]
    written["inference"] = ["counted" if counted else "free" for counted in table["inference"]]
    return tables.styled(
        table.assign(**written),
        budget="budget|s",
        inference="inference",
        size="best size|s",
        annotations="human pairs|s",
        value="forecast|s",
        training_dollars="training|s",
        inference_dollars="serving|s",
    )
