"""How long fits and refits of a joint law take, against SciPy's curve_fit in a loop: python benchmarks/fitting.py."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from rankscale_utils.laws import Fit, fit, joint_law, refit, resample
from rankscale_utils.laws.forms import EXPONENTS
from rankscale_utils.laws.problem import Problem
from rankscale_utils.laws.refitting import DRAWN, EXACT
from rankscale_utils.laws.resampling import wild_targets

REPEATS = 7
RESAMPLES = 2000
BY_CURVE_FIT = 60  # resamples that curve_fit is timed on; its time grows in proportion
SQUARED = 1e3  # a turn of Huber's loss beyond every residual: least squares for both
LAW = joint_law(rising=False)

Seconds = dict[str, float]
Refitter = Callable[[NDArray], NDArray]


def ladder() -> pd.DataFrame:
    """Return the 240 points of six rerankers at forty exposures, of a law like P1's with 1% noise."""
    N, D = np.meshgrid([3.9e6, 1.25e7, 4.2e7, 1.1e8, 3.4e8, 9.4e8], np.geomspace(1e5, 6.4e6, 40))
    return measured(N.ravel(), D.ravel(), np.array([0.3, 30.0, 0.3, 40.0, 0.4]), 0.01)


def isoflop() -> pd.DataFrame:
    """Return 240 points on eight budgets from 6e18 to 3e21 FLOPs, of a law like Chinchilla's with 0.5% noise."""
    flops = np.repeat(np.geomspace(6e18, 3e21, 8), 30)
    N = np.sqrt(flops / 120) * np.tile(np.geomspace(0.2, 5, 30), 8)
    return measured(N, flops / (6 * N), np.array([1.8, 480.0, 0.35, 2100.0, 0.37]), 0.005)


def measured(N: NDArray, D: NDArray, truth: NDArray, noise: float) -> pd.DataFrame:
    """Measurements of runs that have one row each, whose logarithms have this noise."""
    value = LAW.predict(truth, N, D) * np.exp(noise * np.random.default_rng(0).normal(size=len(N)))
    return pd.DataFrame({"run": np.arange(len(N)), "params_non_embedding": N, "exposure": D, "value": value})


def logarithm(axes: NDArray, E: float, A: float, alpha: float, B: float, beta: float) -> NDArray:
    """The law as one would write it for curve_fit."""
    return np.log(E + A * axes[0] ** -alpha + B * axes[1] ** -beta)


def looped(axes: NDArray, start: NDArray, bounds: tuple[NDArray, NDArray]) -> Refitter:
    """What refits (targets, n) with curve_fit, one after the other, and returns coefficients (targets, k)."""
    return lambda targets: np.array([curve_fit(logarithm, axes, y, start, bounds=bounds)[0] for y in np.log(targets)])


def refitters(fitted: Fit) -> dict[str, Refitter]:
    """Our refits and curve_fit's, all from the point fit's coefficients; curve_fit with its own tolerances (1e-8).

    In the table's units the amplitudes need only be positive; in ours they have the very bounds that refit has. Without
    bounds curve_fit runs MINPACK's compiled Levenberg–Marquardt, and coefficients may leave them.
    """
    problem = Problem.of(fitted.law, fitted.data, fitted.scale)
    table, ours = np.array([problem.N, problem.D]), np.array([problem.axes["N"], problem.axes["D"]])
    start = fitted.law.in_units(fitted.vector, problem.units)
    bounds = tuple(fitted.law.from_working(bound) for bound in problem.bounds)
    positive = np.array([(0, np.inf), *[(0, np.inf), EXPONENTS] * 2]).T
    bounded, free = looped(ours, start, bounds), looped(ours, start, (-np.inf, np.inf))
    return {
        "refit": lambda targets: refit(fitted, targets, patience=DRAWN),
        "refit to the end": lambda targets: refit(fitted, targets, patience=EXACT),
        "curve_fit, table's units": looped(table, fitted.vector, tuple(positive)),
        "curve_fit, our units": lambda targets: fitted.law.in_units(bounded(targets), 1 / problem.units),
        "curve_fit, our units, no bounds": lambda targets: fitted.law.in_units(free(targets), 1 / problem.units),
    }


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def repeat(table: pd.DataFrame, robust: Fit, methods: dict[str, Refitter], targets: NDArray) -> Seconds:
    """Seconds of everything once, in turn; curve_fit's are scaled from some of the targets to all of them."""
    times = {
        "fit": seconds(lambda: fit(LAW, table, scale="gap")),
        "resample": seconds(lambda: resample(robust, draws=RESAMPLES)),
    }
    for name, method in methods.items():
        used = targets[:BY_CURVE_FIT] if name.startswith("curve_fit") else targets
        times[name] = seconds(lambda method=method, used=used: method(used)) * len(targets) / len(used)
    return times


def losses(fitted: Fit, targets: NDArray, coefficients: NDArray) -> NDArray:
    """Sum of squared residuals (targets,) on logarithms."""
    predicted = fitted.law.predict(coefficients, fitted.data["N"], fitted.data["D"])
    return ((np.log(targets) - np.log(predicted)) ** 2).sum(1)


def summary(numbers: pd.Series) -> str:
    """Median and range."""
    return f"{numbers.median():.3g} ({numbers.min():.3g}–{numbers.max():.3g})"


def compare(name: str, table: pd.DataFrame) -> None:
    """Print one design's part of the table."""
    fitted, robust = fit(LAW, table, scale="gap", noise=SQUARED), fit(LAW, table, scale="gap")
    values = fitted.predict(fitted.data["N"], fitted.data["D"])
    targets = wild_targets(fitted, fitted.residuals, values, RESAMPLES, 0)
    methods = refitters(fitted)
    times = pd.DataFrame([repeat(table, robust, methods, targets) for _ in range(REPEATS)])
    some = targets[:BY_CURVE_FIT]
    ours = losses(fitted, some, methods["refit"](some))
    print(f"\n{name}: {fitted.rows} points, {fitted.status}")
    print(f"{'':34}{'seconds':<24}{'times refit':<24}{'refit no worse':<16}no worse than refit")
    for method, taken in times.items():
        row = f"{method:<34}{summary(taken):<24}"
        if method in methods:
            theirs = losses(fitted, some, methods[method](some))
            shares = [(a <= b * (1 + 1e-6)).mean() for a, b in ((ours, theirs), (theirs, ours))]
            row += f"{summary(taken / times['refit']):<24}{shares[0]:<16.1%}{shares[1]:.1%}"
        print(row)


def processor() -> str:
    """Name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Print the table of both designs."""
    print(f"{processor()}, {os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")
    print(f"NumPy {np.__version__}, SciPy {scipy.__version__}; a joint law on logarithms")
    print(f"{REPEATS} repeats, everything in turn within each: median (range)")
    print(f"fit: once, Huber's loss; resample: {RESAMPLES} draws, Huber's loss;")
    print(f"the others: {RESAMPLES} refits from the point fit, squared loss; curve_fit's scaled from {BY_CURVE_FIT}")
    print("No worse: a loss at most 1e-6 higher, in how many refits.")
    print("Targets: fit below 0.05 s, resample and refit below 2 s, curve_fit at least 30 times refit.")
    compare("ladder", ladder())
    compare("isoflop", isoflop())


if __name__ == "__main__":
    main()
