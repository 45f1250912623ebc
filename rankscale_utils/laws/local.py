"""Laws around the end of the largest fitted rung, which forecasts start from.

There every form is told by the same words: the *level* (logarithm of the gap to the metric's limit), how fast the gap
closes with size and with exposure (*slopes*, of its logarithm), and how these bend (exponents, and a shape where there
is one). In these words coefficients hardly trade off, and what is known of other ladders can be said of any form.

Arrays θ are (..., k) in the order of `names`, all real: positive numbers as logarithms, shares as logits. u and v are
log(N/N₀) and log(D/D₀).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from .forms import AdditiveLaw, KaplanLaw, SigmoidLaw
from .law import Curve

HIGHEST = 50.0  # exponent beyond which e^x is as good as infinite here
SMALLEST_SHARE = 1e-6  # of the gap at the reference, that a curve may come down to
EXPONENT = (np.log(0.02), np.log(5.0))
SLOPE = (-16.0, 3.0)
LOGIT = (-14.0, 14.0)
LEVEL = (-40.0, 60.0)


@dataclass(frozen=True)
class Local(ABC):
    """A form, whose axes are ("N",) or ("N", "D")."""

    axes: tuple[str, ...]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What the columns of θ are; the first is the level, `log_alpha` and `log_beta` are among them."""

    @abstractmethod
    def log_gap(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        """Logarithm of the gap (..., n)."""

    @abstractmethod
    def slopes(self, theta: NDArray) -> NDArray:
        """Logarithms of the slopes at the reference (..., axes): of −log gap in u and v."""

    @abstractmethod
    def natural(self, theta: NDArray, N0: float, D0: float, law: Curve) -> NDArray:
        """Natural coefficients (..., k) of the law."""

    @abstractmethod
    def law(self, rising: bool, limits: tuple[float, float]) -> Curve:
        """The form as a law of sizes and exposures."""

    @abstractmethod
    def start(self, level: float, slopes: NDArray, exponents: NDArray) -> NDArray:
        """θ (k,) of this level with about these logarithms of slopes and exponents, each (axes,)."""

    def shape(self, theta: NDArray) -> NDArray:
        """What else bends the curve (..., shapes), in units of its prior's standard deviation."""
        return theta[..., :0]

    def log_jacobian(self, theta: NDArray) -> NDArray:
        """Logarithm (...) of how slopes and exponents, which the prior is about, move with θ."""
        return np.zeros(theta.shape[:-1])

    def exponents(self, theta: NDArray) -> NDArray:
        """Logarithms of the exponents (..., axes)."""
        places = [self.names.index(name) for name in ("log_alpha", "log_beta")[: len(self.axes)]]
        return theta[..., places]

    @property
    def bounds(self) -> tuple[NDArray, NDArray]:
        """Lowest and highest θ, each (k,)."""
        ranges = {"level": LEVEL, "log_alpha": EXPONENT, "log_beta": EXPONENT}
        return tuple(np.array([ranges.get(name, self._range)[end] for name in self.names]) for end in (0, 1))

    _range = LOGIT


def column(theta: NDArray, index: int) -> NDArray:
    """One column of θ, (..., 1), to be spread over rows."""
    return theta[..., index : index + 1]


@dataclass(frozen=True)
class Powers(Local):
    """Power laws that add up: gap = δ + A·N^−α + B·D^−β, δ ≥ 0.

    Here the gap at the reference is shared among δ and the terms: their logits against δ are in θ.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The level, and for each axis the term's logit and the exponent."""
        return ("level", "size", "log_alpha", "exposure", "log_beta")[: 1 + 2 * len(self.axes)]

    def log_gap(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        """Logarithm of the gap (..., n)."""
        shares, closed = np.exp(self._log_shares(theta)), 0.0
        for place, x in enumerate((u, v)[: len(self.axes)]):
            power = np.minimum(-np.exp(column(theta, 2 + 2 * place)) * x, HIGHEST)
            closed = closed + column(shares, 1 + place) * np.expm1(power)
        return column(theta, 0) + np.log(np.maximum(1 + closed, SMALLEST_SHARE))

    def _log_shares(self, theta: NDArray) -> NDArray:
        """Logarithms of the shares of δ and of each term in the gap at the reference (..., 1 + axes)."""
        logits = np.concatenate([np.zeros_like(theta[..., :1]), theta[..., 1::2]], -1)
        return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

    def slopes(self, theta: NDArray) -> NDArray:
        """Share times exponent."""
        return self._log_shares(theta)[..., 1:] + theta[..., 2::2]

    def log_jacobian(self, theta: NDArray) -> NDArray:
        """The share that is δ's."""
        return self._log_shares(theta)[..., 0]

    def natural(self, theta: NDArray, N0: float, D0: float, law: Curve) -> NDArray:
        """Asymptote, then amplitude and exponent of each axis."""
        parts = np.exp(theta[..., :1] + self._log_shares(theta))
        limit, sign = (law.limits[1], -1) if law.rising else (law.limits[0], 1)
        coefficients = np.empty(theta.shape)
        coefficients[..., 0] = limit + sign * parts[..., 0]
        coefficients[..., 2::2] = exponents = np.exp(theta[..., 2::2])
        units = np.log([N0, D0][: len(self.axes)])
        coefficients[..., 1::2] = parts[..., 1:] * np.exp(exponents * units)
        return coefficients

    def law(self, rising: bool, limits: tuple[float, float]) -> AdditiveLaw:
        """The size or joint law on the metric's own scale."""
        return AdditiveLaw(self.axes, rising, limits)

    def start(self, level: float, slopes: NDArray, exponents: NDArray) -> NDArray:
        """Shares are slopes over exponents, of at most 0.8 together."""
        shares = np.exp(slopes - exponents)
        shares *= min(1.0, 0.8 / shares.sum())
        logits = np.log(shares / (1 - shares.sum()))
        return np.r_[level, np.ravel([logits, exponents], order="F")]


@dataclass(frozen=True)
class LogPowers(Local):
    """The same sum for the logarithm of the gap: log gap = z∞ + A·N^−α + B·D^−β, near a power law where α is small."""

    _range = SLOPE

    @property
    def names(self) -> tuple[str, ...]:
        """The level, and for each axis slope and exponent."""
        return ("level", "log_size_slope", "log_alpha", "log_exposure_slope", "log_beta")[: 1 + 2 * len(self.axes)]

    def log_gap(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        """Logarithm of the gap (..., n)."""
        total = column(theta, 0)
        for place, x in enumerate((u, v)[: len(self.axes)]):
            log_slope, log_exponent = column(theta, 1 + 2 * place), column(theta, 2 + 2 * place)
            power = np.minimum(-np.exp(log_exponent) * x, HIGHEST)
            total = total + np.exp(log_slope - log_exponent) * np.expm1(power)
        return np.clip(total, *LEVEL)

    def slopes(self, theta: NDArray) -> NDArray:
        """They are in θ."""
        return theta[..., 1::2]

    def natural(self, theta: NDArray, N0: float, D0: float, law: Curve) -> NDArray:
        """Asymptote, then amplitude and exponent of each axis, on the gap's scale."""
        amplitudes, exponents = np.exp(theta[..., 1::2] - theta[..., 2::2]), np.exp(theta[..., 2::2])
        coefficients, sign = np.empty(theta.shape), -1 if law.rising else 1
        coefficients[..., 0] = sign * (theta[..., 0] - amplitudes.sum(-1))
        coefficients[..., 1::2] = amplitudes * np.exp(exponents * np.log([N0, D0][: len(self.axes)]))
        coefficients[..., 2::2] = exponents
        return coefficients

    def law(self, rising: bool, limits: tuple[float, float]) -> AdditiveLaw:
        """The size or joint law on the gap's scale."""
        return AdditiveLaw(self.axes, rising, limits, "gap")

    def start(self, level: float, slopes: NDArray, exponents: NDArray) -> NDArray:
        """Slopes and exponents as they are."""
        return np.r_[level, np.ravel([slopes, exponents], order="F")]


@dataclass(frozen=True)
class Shaped(Local):
    """Forms whose gap is δ and one part that closes: the part's logit against δ, two exponents and a shape are in θ."""

    SHAPE = 1.5  # standard deviation of the shape's normal prior around zero

    @property
    def names(self) -> tuple[str, ...]:
        """The level, the closing part's logit, the exponents and the shape."""
        return ("level", "part", "log_alpha", *(("log_beta",) if "D" in self.axes else ()), "shape")

    def shape(self, theta: NDArray) -> NDArray:
        """The last column."""
        return theta[..., -1:] / self.SHAPE

    def log_gap(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        """Logarithm of the gap (..., n)."""
        closed = expit(column(theta, 1)) * (self._part(theta, u, v) - 1)
        return column(theta, 0) + np.log(np.maximum(1 + closed, SMALLEST_SHARE))

    @abstractmethod
    def _part(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        """What is left of the closing part (..., n), in units of it at the reference."""

    def log_jacobian(self, theta: NDArray) -> NDArray:
        """The share that is δ's, and the shape in units of its standard deviation."""
        return -np.logaddexp(0, theta[..., 1]) - np.log(self.SHAPE)

    def start(self, level: float, slopes: NDArray, exponents: NDArray) -> NDArray:
        """Half of the gap closes, in the middle of the shapes."""
        return np.r_[level, 0.0, exponents, 0.0]

    def _parts(self, theta: NDArray, law: Curve) -> tuple[NDArray, NDArray]:
        """Asymptote (...) and logarithm (...) of the closing part at the reference."""
        limit, sign = (law.limits[1], -1) if law.rising else (law.limits[0], 1)
        rest = np.exp(theta[..., 0] - np.logaddexp(0, theta[..., 1]))
        return limit + sign * rest, theta[..., 0] - np.logaddexp(0, -theta[..., 1])


@dataclass(frozen=True)
class Kaplan(Shaped):
    """gap = δ + [(A/N)^(α/β) + B/D]^β; the shape is the logit of the size's share in the bracket."""

    def _part(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        alpha, beta, share = np.exp(column(theta, 2)), np.exp(column(theta, 3)), expit(column(theta, 4))
        by_size = share * np.exp(np.clip(-alpha / beta * u, -HIGHEST, HIGHEST))
        return np.minimum(by_size + (1 - share) * np.exp(-v), np.exp(HIGHEST)) ** beta

    def slopes(self, theta: NDArray) -> NDArray:
        """Each exponent times its share of the closing part."""
        shares = np.stack([-np.logaddexp(0, -theta[..., 4]), -np.logaddexp(0, theta[..., 4])], -1)
        return theta[..., 2:4] - np.logaddexp(0, -theta[..., 1:2]) + shares

    def natural(self, theta: NDArray, N0: float, D0: float, law: Curve) -> NDArray:
        """Asymptote, A, alpha, B, beta."""
        asymptote, log_part = self._parts(theta, law)
        alpha, beta = np.exp(theta[..., 2]), np.exp(theta[..., 3])
        log_A = np.log(N0) + (log_part - beta * np.logaddexp(0, -theta[..., 4])) / alpha
        log_B = np.log(D0) + log_part / beta - np.logaddexp(0, theta[..., 4])
        return np.stack([asymptote, np.exp(log_A), alpha, np.exp(log_B), beta], -1)

    def law(self, rising: bool, limits: tuple[float, float]) -> KaplanLaw:
        """Kaplan's law on the metric's own scale."""
        return KaplanLaw(self.axes, rising, limits)


@dataclass(frozen=True)
class Sigmoid(Shaped):
    """gap = δ + A/(1 + B·N^α·D^β): slow, then fast, then slow again; a product of powers where B is large.

    The shape is the logarithm of B·N^α·D^β at the reference. Downstream scores as sigmoids of compute: arXiv
    2401.04757, 2405.10938.
    """

    def _part(self, theta: NDArray, u: NDArray, v: NDArray) -> NDArray:
        rise = np.exp(column(theta, 2)) * u
        if "D" in self.axes:
            rise = rise + np.exp(column(theta, 3)) * v
        c = np.exp(column(theta, len(self.names) - 1))
        return (1 + c) / (1 + c * np.exp(np.clip(rise, -HIGHEST, HIGHEST)))

    def slopes(self, theta: NDArray) -> NDArray:
        """Each exponent times what still closes."""
        closing = -np.logaddexp(0, -theta[..., 1:2]) - np.logaddexp(0, -theta[..., -1:])
        return theta[..., 2:-1] + closing

    def natural(self, theta: NDArray, N0: float, D0: float, law: Curve) -> NDArray:
        """Asymptote, A, B, alpha and, where exposure counts, beta."""
        asymptote, log_part = self._parts(theta, law)
        exponents = np.exp(theta[..., 2:-1])
        A = np.exp(log_part + np.logaddexp(0, theta[..., -1]))
        B = np.exp(theta[..., -1] - exponents @ np.log([N0, D0][: len(self.axes)]))
        return np.concatenate([np.stack([asymptote, A, B], -1), exponents], -1)

    def law(self, rising: bool, limits: tuple[float, float]) -> SigmoidLaw:
        """The sigmoid on the metric's own scale."""
        return SigmoidLaw(self.axes, rising, limits)


def forms(axes: tuple[str, ...]) -> dict[str, Local]:
    """The forms that are tried, by name."""
    if "D" not in axes:
        return {"size": Powers(axes), "size, logarithm": LogPowers(axes), "size, sigmoid": Sigmoid(axes)}
    return {"additive": Powers(axes), "logarithm": LogPowers(axes), "Kaplan": Kaplan(axes), "sigmoid": Sigmoid(axes)}
