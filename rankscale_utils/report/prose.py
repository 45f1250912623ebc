"""Numbers and lists in words, and sentences that pages share: plain text, as `tables` alone escapes HTML."""

import math
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from rankscale_utils.analysis.sealing import NO_OTHERS, UNSEALED

POWERS = ["", " thousand", " million", " billion", " trillion", " quadrillion"]  # of a thousand
WIDE = 1000  # times the lower end: an interval of the size that rules hardly anything out


# Of no name: inf-gsm and query-nan stay as they are.
NO_NUMBER = re.compile(r"(?<![\w./\-−])[+\-−$]?(nan|inf)\b%?(?![\w/]|-\w)")
ENDLESS = re.compile(r"(?<![\w.])[+\-−]?\d[\d,]{18,}(\.\d+)?(?![\w.…])")  # digits that nobody counts


def written(value: float, form: str) -> str:
    """Return a number by a format; – where there is none, and powers of ten where it would be too long to read."""
    return "–" if value is None or not math.isfinite(value) else legible(format(value, form))


def legible(text: str) -> str:
    """Return text as pages may show it: – for what is no number or has no end, powers of ten for endless digits.

    Every sentence and every cell of a page goes through this, whatever made them.
    """
    shorter = ENDLESS.sub(lambda digits: f"{float(digits[0].replace(',', '').replace('−', '-')):.3g}", text)
    return NO_NUMBER.sub("–", shorter)


def number(value: float) -> str:
    """Return a number with three digits; – where there is none."""
    return "–" if np.isnan(value) else "no limit" if np.isinf(value) else f"{float(f'{value:.3g}'):,g}"


def p_in_words(p: float) -> str:
    """Return a p value as prose has it."""
    return "–" if math.isnan(p) else "under 0.001" if p < 0.001 else f"{p:.2g}"


def amount(cost: str, value: float) -> str:
    """Return a cost as prose has it: 0.34 (ms), 120 million (FLOPs)."""
    value = float(f"{value:.2g}")
    if cost == "p50_ms":
        return f"{value:,g}"
    power = min(int(math.log10(value) // 3), len(POWERS) - 1)
    return f"{value / 1000**power:g}{POWERS[power]}"


def listed(words: Iterable[str]) -> str:
    """Return words as prose lists them: a, b and c."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def si(value: float) -> str:
    """Return a count with three digits, a billion as B; beyond what any training could mean, only its side."""
    if math.isnan(value):
        return "–"
    value = float(f"{value:.3g}")
    if not 1 <= value < 1e18:
        return "under 1" if value < 1 else "over 1e18"
    power = min(int(math.log10(value) // 3), 5)
    return f"{value / 1000**power:.3g}{['', 'k', 'M', 'B', 'T', 'P'][power]}"


def dollars(value: float) -> str:
    """Return an amount of money with three digits, however small; – where there is none."""
    if math.isnan(value):
        return "–"
    if not 0 < value < 1e15:
        return "$0" if value == 0 else "no limit" if math.isinf(value) else "over $1e15"
    if value >= 1000:
        return f"${si(value)}"
    if value < 1e-6:
        return "under $1e-6"
    if value < 1e-4:
        return f"${value:.2e}"
    return f"${float(f'{value:.3g}'):.{max(2 - math.floor(math.log10(value)), 0)}f}"


def wide(row: Mapping) -> str:
    """Say where the interval of the size is too wide to plan with."""
    if not row["size_lo"] > 0:
        return " The runs do not tell the size: its interval begins at nothing."
    factor = row["size_hi"] / row["size_lo"]
    if not factor > WIDE:
        return ""
    return f" The runs hardly tell the size: its interval spans a factor of {times(factor).removesuffix(' times')}."


def doubt(status: str) -> str:
    """Say what is wrong with a law, or nothing where it converged."""
    return "" if status == "converged" else f" Its law is {status}."


def times(factor: float) -> str:
    """Return a factor in words, with two digits."""
    if math.isnan(factor):
        return "– times"
    if factor >= 1e6:
        return "over a million times"
    return f"{factor:.1f} times" if factor < 10 else f"about {float(f'{factor:.2g}'):,.0f} times"


def share_in_words(share: float) -> str:
    """Return a share in percent; never all of it where something is left."""
    return "more than 99%" if 0.995 <= share < 1 else f"{share:.0%}"


def duration(hours: float) -> str:
    """Return a stretch of time as prose has it: about 3.5 hours, about 12 minutes."""
    if hours >= 1:
        return f"about {hours:,.1f} hours"
    minutes = round(60 * hours)
    return f"about {minutes} minutes" if minutes > 1 else "about a minute"


def with_ends(row: Mapping, name: str, write: Callable[[float], str]) -> str:
    """Return a number and, where the row has one, its interval: 12 [9, 15]; – where there is no number."""
    if math.isnan(row[name]):
        return "–"
    ends = "" if f"{name}_lo" not in row else f" [{write(row[f'{name}_lo'])}, {write(row[f'{name}_hi'])}]"
    return write(row[name]) + ends


def seal_sentence(forecasts: pd.DataFrame) -> str:
    """Say what was sealed, when, on which data, and whether the truth could be known."""
    first = forecasts.iloc[0]
    if first["sealed_at"] == UNSEALED:
        return (
            f"{len(forecasts):,} forecasts that are not sealed: a notebook run by hand seals nothing, the study does."
        )
    known = (
        "The held-out measurements existed by then: the fits did not use them, and the seal shows only that the "
        "forecasts were not changed since."
        if first["truth_existed"]
        else "No held-out run had been trained by then."
    )
    return (
        f"{len(forecasts):,} forecasts were sealed at {first['sealed_at']}, {first['clock']}. {known} SHA-256 of the "
        f"forecasts: {first['sealed_sha256'][:16]}…, of the measurements: {first['data_sha256'][:16]}…."
        f"{other_seals(forecasts)}"
    )


def other_seals(forecasts: pd.DataFrame) -> str:
    """Name the seals that stand beside the one that is shown, and what they rest on, after a blank; or nothing."""
    words = forecasts["other_seals"].iloc[0]
    return "" if words == NO_OTHERS else f" {words}"


def counted(some: float, all_: float, what: str = "") -> str:
    """Return a count as prose has it: 8 of 9 forecasts."""
    return f"{some:.0f} of {all_:.0f}{f' {what}' if what else ''}{'s' if what and all_ != 1 else ''}"


def models(rows: pd.DataFrame) -> str:
    """Return how many models, a rung of an objective each, rows are of: metrics of one are not independent."""
    count = len(rows.drop_duplicates(["objective", "rung"]))
    return f"{count} model{'s' * (count != 1)}"
