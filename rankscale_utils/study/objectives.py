"""Objectives by family, their learning rates, and by which score an objective ranks."""

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from .fields import Finite, Part, Whole, refusal

OF_THE_QUERY = ("generation", "unlikelihood", "margin")  # objectives that train the query's likelihood


SCORES = ("log_likelihood", "true_false", "both")

Family = Literal["cross_encoder", "bi_encoder", "ed2lm"]

OfScores = Literal["pointwise", "pairwise", "listwise", "lambdaloss", "margin_mse", "ranknet_distillation"]

OfTexts = Literal["contrastive"]

OfGeneration = Literal["generation", "unlikelihood", "true_false", "margin"]

ObjectiveName = Literal[OfScores, OfTexts, OfGeneration]

FAMILY_OF: dict[str, Family] = dict.fromkeys(get_args(OfTexts), "bi_encoder")  # of objectives that only one family has

FAMILY_OF |= dict.fromkeys(get_args(OfGeneration), "ed2lm")

DISTILLED = frozenset({"margin_mse", "ranknet_distillation"})  # objectives that learn from a teacher's scores

Rate = Annotated[Finite, Field(gt=0, lt=1)]


class LearningRate(Part):
    """The rule that gives each rung its rate: base × (hidden / 32)^−power, or `of` with a rate for every rung.

    The Ettin rerankers' own, for pointwise distillation in batches of 192 to 1,024 pairs, are 17m: 2.4e-4, 32m: 1.2e-4,
    68m: 3e-5, 150m: 1.5e-5, 400m: 7e-6 and 1b: 3e-6.
    """

    base: Rate | None = Field(None, description="the rate at hidden size 32")
    power: Finite = Field(0.75, ge=0)
    of: dict[str, Rate] | None = Field(None, description="rates by rung, instead of the rule")
    sweep: tuple[Annotated[Finite, Field(gt=0)], ...] = Field(
        (), description="factors on a rung's rate, tried on its shortest exposure; training queries choose among them"
    )

    @refusal("of")
    def _neither_or_both(of: dict[str, float] | None, earlier: dict) -> Iterator[str]:
        if of is None and earlier.get("base", 1) is None:
            yield "without base there is no rate: give base, or a rate for every rung"
        if of is not None and earlier.get("base") is not None:
            yield f"stands beside base = {earlier['base']}: give one of the two"

    def at(self, rung: str, hidden: int) -> float:
        """Return the learning rate of a rung of that hidden size."""
        return self.of[rung] if self.of else self.base * (hidden / 32) ** -self.power


class Objective(Part):
    """What one objective needs: its seeds (one run each on every rung) and its learning-rate rule."""

    seeds: tuple[Whole, ...] = Field((0,), min_length=1)
    learning_rate: LearningRate
    temperature: Finite | None = Field(
        None, gt=0, description="of listwise's and contrastive's softmax; scores are divided by it"
    )
    in_batch: bool = Field(False, description="contrastive: other queries' relevant documents are negatives too")
    score: Literal["log_likelihood", "true_false", "both"] | None = Field(
        None, description="of ED2LM, which ranks by it; absent: true_false where the objective trains it"
    )


def score_of_objective(objective: str, settings: Objective) -> str:
    """Return the score that an objective's models rank by, one of `ed2lm.SCORES`."""
    return settings.score or ("log_likelihood" if objective in OF_THE_QUERY else "true_false")


def trains_both(objective: str, settings: Objective) -> bool:
    """Whether an objective of the query's likelihood trains the verdict as well, since its models rank by it."""
    return objective in OF_THE_QUERY and score_of_objective(objective, settings) != "log_likelihood"


def scores_of_objective(objective: str, settings: Objective) -> tuple[str, ...]:
    """Return the scores that an objective trains, of `ed2lm.SCORES`; the one that its models rank by comes first."""
    first = score_of_objective(objective, settings)
    every = trains_both(objective, settings) or first == "both"
    return (first, *(kind for kind in SCORES if kind != first)) if every else (first,)
