"""What is held out, how laws are fitted, and what budgets pay for."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from .fields import Finite, Part, Whole


class HeldOut(Part):
    """Rungs that no fit may see; their forecasts are sealed before they are opened."""

    rungs: tuple[str, ...] = Field(min_length=1)


class Believed(Part):
    """A log-normal prior: its median, and the standard deviation of the natural logarithm."""

    median: Finite = Field(gt=0)
    spread: Finite = Field(gt=0, le=5)


class Prior(Part):
    """What fits believe before they see the runs, in place of what public ladders told; for non-embedding sizes."""

    wide: bool = Field(False, description="true: next to nothing is believed, and the runs speak alone")
    size_exponent: Believed | None = None
    exposure_exponent: Believed | None = None
    size_slope: Believed | None = None
    exposure_slope: Believed | None = None
    run_noise: Believed | None = None
    discrepancy: Finite | None = Field(None, ge=0, description="what a law is wrong by a factor e beyond the runs")


def _listed(metrics: Any) -> Any:
    """Read one name as a list of it."""
    return (metrics,) if isinstance(metrics, str) else metrics


def _form(metrics: Any) -> str:
    """Return how metrics are given, in brackets, which keep it out of messages."""
    return "[mapping]" if isinstance(metrics, Mapping) else "[list]"


Metrics = Annotated[
    Annotated[tuple[str, ...], Tag("[list]")]
    | Annotated[dict[str, Literal["rises", "falls"]], Field(min_length=1), Tag("[mapping]")],
    Discriminator(_form),
    BeforeValidator(_listed),
]


class Forecasting(Part):
    """What is forecast, and with which confidence."""

    metrics: Metrics = Field(
        (),
        description="names, or `{bpb: falls, helpfulness: rises}` where a name does not say which way a metric "
        "improves; empty: every metric that the measurements hold",
    )
    headline: str | None = Field(None, description="the metric that the report opens with; the first one when absent")
    headline_test: str | None = Field(
        None,
        description="the test that the report opens with, as the column `collection` has it; the first one when absent",
    )
    size: Literal["params_non_embedding", "params", "flops_per_pair"] = Field(
        "params_non_embedding", description="what N counts"
    )
    exposure: Literal["exposure", "queries", "tokens"] = Field("exposure", description="what D counts; exposure: pairs")
    value: Literal["last", "best"] = Field(
        "last",
        description="of a run at an exposure: its checkpoint's there, or the best up to there, chosen on the same "
        "test, so that it leans upwards",
    )
    checkpoints: Whole = Field(1, gt=0, description="so many neighbouring checkpoints of a run are averaged to one row")
    burn_in: Finite = Field(0.1, ge=0, lt=1, description="share of a run's largest exposure that fits leave out")
    mean_of_tests: bool = Field(False, description="true: the mean over all tests is forecast as one more test")
    prior: Prior = Prior()
    level: Finite = Field(0.95, gt=0.5, lt=1)
    draws: Whole = Field(1000, ge=100, description="draws of every law")
    simulations: Whole = Field(
        200,
        ge=10,
        description="simulated studies that say how often intervals of laws of annotated pairs hold the truth",
    )

    @property
    def directions(self) -> Mapping[str, str]:
        """The directions that are stated, by metric."""
        return self.metrics if isinstance(self.metrics, Mapping) else {}


class Allocation(Part):
    """What compute and annotation cost, and what the system will serve: all assumed unless the study says otherwise.

    Prices of compute are dollars per 1e18 FLOPs. The default 1.4 assumes $2 an H100-hour at 4e14 FLOP/s sustained.
    """

    tokens_per_pair: Whole = Field(
        128, gt=0, description="without counted FLOPs a pair costs 6 × non-embedding parameters × tokens"
    )
    queries: Finite = Field(1e7, ge=0, description="served over the system's life; 0: only training is paid for")
    depth: Whole = Field(100, gt=0, description="candidates scored a query when it serves")
    training_price: Finite = Field(1.4, gt=0, description="dollars per 1e18 FLOPs of training")
    serving_price: Finite = Field(1.4, ge=0, description="dollars per 1e18 FLOPs of serving")
    annotation_price: Finite = Field(
        0.6, gt=0, description="dollars an annotated pair; assumed: a minute of work at $36 an hour"
    )
    documents: Finite = Field(
        1e8, ge=0, description="a retriever embeds over its life, each counted whenever it is; assumed"
    )
    budget: Finite | None = Field(
        None, gt=0, description="dollars; absent: ten times the costliest run's training, and serving its model"
    )
    wanted: Finite | None = Field(
        None, gt=0, description="value of the headline metric; absent: the largest rung's best, for each objective"
    )
