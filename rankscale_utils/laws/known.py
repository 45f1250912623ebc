"""What is known of scaling before the first run: learnt from ladders that others trained, and kept as a few numbers.

`known.json` holds them with what they were learnt from; `python -m benchmarks.bank` learns them anew.
"""

import json
import math
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files

WIDE = 3.0  # how many times as far a prior reaches that is to say next to nothing


@dataclass(frozen=True)
class Belief:
    """A log-normal prior of a positive quantity.

    spread: standard deviation of its natural logarithm over all ladders. within: the part of it by which series of one
    study differ; the rest they share.
    """

    median: float
    spread: float
    within: float

    def __post_init__(self):
        """Raise ValueError where a number is not positive, or more differs within studies than over all."""
        for field in fields(self):
            number = getattr(self, field.name)
            if not 0 < number < math.inf:
                raise ValueError(f"{field.name} is {number}; give a positive number")
        if self.within > self.spread:
            raise ValueError(f"within is {self.within}; it is a part of the spread, {self.spread}: give no more")

    @property
    def centre(self) -> float:
        """Logarithm of the median."""
        return math.log(self.median)

    def wide(self) -> "Belief":
        """The same median, next to nothing known around it."""
        return replace(self, spread=self.spread * WIDE, within=self.within * WIDE)


@dataclass(frozen=True)
class Known:
    """What a fit believes before it sees the runs.

    size_exponent, exposure_exponent: α and β. size_slope, exposure_slope: how far the noise's scale moves a factor e in
    size or exposure, at the end of the largest fitted rung. run_noise: standard deviation between runs, on the noise's
    scale. discrepancy: what the law itself is wrong by a factor e away from that point (one standard deviation), as a
    share of the geometric mean of its slope there and `size_slope`. Sizes are parameters outside the embeddings.
    """

    size_exponent: Belief
    exposure_exponent: Belief
    size_slope: Belief
    exposure_slope: Belief
    run_noise: Belief
    discrepancy: float

    @property
    def beliefs(self) -> dict[str, Belief]:
        """All beliefs by name."""
        return {name: part for name, part in vars(self).items() if isinstance(part, Belief)}

    def on_another_size(self, growth: float) -> "Known":
        """The same beliefs when N counts something that grows as non-embedding size^(1/growth)."""
        moved = {
            name: replace(getattr(self, name), median=getattr(self, name).median * growth)
            for name in ("size_exponent", "size_slope")
        }
        return replace(self, **moved)

    def wide(self) -> "Known":
        """The same medians, next to nothing known around them."""
        return replace(self, **{name: belief.wide() for name, belief in self.beliefs.items()})


@cache
def _numbers() -> dict:
    return json.loads(files(__package__).joinpath("known.json").read_text(encoding="utf-8"))


def held_elsewhere(level: float) -> float:
    """Share of intervals of this level that held the truth on ladders of others, each forecast by what the rest taught.

    Not a number for a level that was not tried.
    """
    return _numbers()["held"].get(f"{level:g}", math.nan)


@cache
def known() -> Known:
    """Return what is known, as `known.json` has it."""
    numbers = _numbers()
    beliefs = {field.name: Belief(**numbers[field.name]) for field in fields(Known) if field.type is Belief}
    return Known(**beliefs, discrepancy=numbers["discrepancy"])
