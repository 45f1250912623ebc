"""Annotation sources compared by their laws: how steep each is, and how many of its pairs one human pair is worth.

Source: arXiv 2403.18684, §5, which finds a power law for every source and a steeper one for better annotation.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .fitting import fit
from .law import Law
from .resampling import Draws, resample, robust_sd, t_quantile


def draws_by_source(
    law: Law,
    sources: Mapping[str, pd.DataFrame],
    *,
    draws: int = 1000,
    seed: int = 0,
    size: str = "params_non_embedding",
    annotations: str = "annotations",
) -> dict[str, Draws]:
    """Fit a law to the measurements of every annotation source and resample its runs; returns Draws by source.

    law: a form with D, such as `data_law(rising=False)`. sources: a table as in `fit` for each source; D is its column
    `annotations`, the number of annotated pairs. Residuals are on the law's scale. Sources are resampled independently
    of one another. Raises ValueError as `fit` does, naming the source, and for a law without D.
    """
    if "D" not in law.axes:
        raise ValueError(f"the law is a {law.name} law; compare annotation sources by a law of their pairs")
    drawn = {}
    for index, (source, table) in enumerate(sources.items()):
        try:
            fitted = fit(law, table, size=size, exposure=annotations, scale=law.scale)
        except ValueError as error:
            raise ValueError(f"annotation source {source!r}: {error}") from None
        drawn[source] = resample(fitted, draws=draws, seed=seed + index)
    return drawn


def coefficients_by_source(sources: Mapping[str, Draws], *, level: float = 0.95) -> pd.DataFrame:
    """Compare the laws' coefficients: columns source, coefficient, value, lo, hi, level, status, r2, rmse, runs.

    Intervals are value ± t · sd of the draws, of amplitudes in logarithms; the asymptote's ends within its limits.
    """
    tables = []
    for source, draws in sources.items():
        law, working = draws.fit.law, draws.fit.law.to_working(draws.fit.vector)
        reach = t_quantile(level, draws.degrees) * robust_sd(law.to_working(draws.coefficients))
        ends = {name: law.from_working(working + side * reach) for name, side in (("lo", -1), ("hi", 1))}
        if law.scale == "value":
            for end in ends.values():
                end[0] = np.clip(end[0], *law.limits)
        known = {"status": draws.fit.status, "r2": draws.fit.r2, "rmse": draws.fit.rmse, "runs": draws.fit.runs}
        rows = {"source": source, "coefficient": law.coefficient_names, "value": draws.fit.vector, **ends}
        tables.append(pd.DataFrame(rows).assign(level=level, **known))
    return pd.concat(tables, ignore_index=True)


def compare_exponents(sources: Mapping[str, Draws], *, reference: str = "human", level: float = 0.95) -> pd.DataFrame:
    """Compare every other source's exponent of D with the reference's.

    Returns columns source, exponent, reference_exponent, difference, lo, hi (estimate ± t · sd of the draws), level and
    verdict: `steeper`, `flatter`, `undecided` where the interval holds no difference, or the status of a law whose
    exponent cannot be believed. Raises ValueError for a reference that is not among the sources.
    """
    _check_reference(sources, reference)
    rows = [
        {"source": name} | _steeper(sources[name], sources[reference], level) for name in _others(sources, reference)
    ]
    return pd.DataFrame(rows).assign(level=level)


def _steeper(source: Draws, reference: Draws, level: float) -> dict[str, float | str]:
    """The other columns of `compare_exponents` for one source."""
    exponents = {
        "exponent": source.fit.coefficients["beta"],
        "reference_exponent": reference.fit.coefficients["beta"],
    }
    difference = exponents["exponent"] - exponents["reference_exponent"]
    beta = source.fit.law.coefficient_names.index("beta")
    drawn = source.coefficients[:, beta] - reference.coefficients[:, beta]
    reach = t_quantile(level, min(source.degrees, reference.degrees)) * _sd(drawn)
    lo, hi = difference - reach, difference + reach
    doubted = [draws.fit.status for draws in (source, reference) if draws.fit.status != "converged"]
    verdict = doubted[0] if doubted else "steeper" if lo > 0 else "flatter" if hi < 0 else "undecided"
    return exponents | {"difference": difference, "lo": lo, "hi": hi, "verdict": verdict}


def worth_in_pairs(
    sources: Mapping[str, Draws], qualities: ArrayLike, *, reference: str = "human", level: float = 0.95
) -> pd.DataFrame:
    """How many pairs of every other source one pair of the reference is worth at given qualities of the metric.

    Where the laws y = y∞ ± B·D^−β reach a quality with D pairs of the source and D' of the reference, one pair of the
    reference is worth D / D'. qualities: (n,) values of the metric. Returns columns source, quality, pairs,
    reference_pairs, worth, lo, hi, level, reached (the share of draws in which both sources reach the quality) and
    status: `reachable`, or which source never gets there, and then the numbers are NaN. Intervals are estimate ± t · sd
    of the draws in logarithms; `hi` is infinite where more than half of 1 − level of the source's draws do not reach
    the quality, and `lo` is 0 where the reference's do not. Raises ValueError for laws of more than the pairs alone,
    for a reference that is not among the sources, and for sources with unlike numbers of draws.
    """
    _check_reference(sources, reference)
    for source, draws in sources.items():
        if draws.fit.law.name != "data":
            raise ValueError(f"source {source!r} has a {draws.fit.law.name} law; compare worth by data laws")
    if len({len(draws.coefficients) for draws in sources.values()}) > 1:
        raise ValueError("the sources have unlike numbers of draws; draw as many for each")
    qualities = np.atleast_1d(np.asarray(qualities, float))
    rows = [
        {"source": source, "quality": quality} | _worth(sources[source], sources[reference], quality, level)
        for source in _others(sources, reference)
        for quality in qualities
    ]
    return pd.DataFrame(rows).assign(level=level)


def _check_reference(sources: Mapping[str, Draws], reference: str) -> None:
    if reference not in sources:
        raise ValueError(f"reference {reference!r} is not a source; use one of {', '.join(sources)}")


def _others(sources: Mapping[str, Draws], reference: str) -> list[str]:
    return [source for source in sources if source != reference]


def _worth(source: Draws, reference: Draws, quality: float, level: float) -> dict[str, float | str]:
    """The other columns of `worth_in_pairs` for one source and quality."""
    pairs, reference_pairs = (_log_pairs(draws.fit.law, draws.fit.vector, quality) for draws in (source, reference))
    drawn = [_log_pairs(draws.fit.law, draws.coefficients, quality) for draws in (source, reference)]
    estimate, ratios = pairs - reference_pairs, drawn[0] - drawn[1]
    both = np.isfinite(ratios)
    reach = t_quantile(level, min(source.degrees, reference.degrees)) * _sd(ratios[both])
    # A source that may never get there is worth any number of pairs; a reference that may not, none of them.
    up, down = (np.inf if np.isnan(log_pairs).mean() > (1 - level) / 2 else reach for log_pairs in drawn)
    lost = [name for name, needed in (("source", pairs), ("reference", reference_pairs)) if np.isnan(needed)]
    return {
        "pairs": float(np.exp(pairs)),
        "reference_pairs": float(np.exp(reference_pairs)),
        "worth": float(np.exp(estimate)),
        "lo": float(np.exp(estimate - down)),
        "hi": float(np.exp(estimate + up)),
        "reached": float(both.mean()),
        "status": f"out of reach with any number of the {' and the '.join(lost)}'s pairs" if lost else "reachable",
    }


def _sd(ratios: NDArray) -> float:
    """Robust standard deviation of draws (draws,), unbounded where there are too few."""
    return float(robust_sd(ratios[:, None])[0]) if len(ratios) > 1 else np.inf


def _log_pairs(law: Law, coefficients: NDArray, quality: float) -> NDArray:
    """Logarithm of D = (B / |y − y∞|)^(1/β), (...), of a data law (..., 3); NaN where it never gets so far."""
    asymptote, B, beta = np.moveaxis(coefficients, -1, 0)
    left = law.sign * (law.to_scale(quality) - asymptote)
    return (np.log(B) - np.log(np.where(left > 0, left, np.nan))) / beta
