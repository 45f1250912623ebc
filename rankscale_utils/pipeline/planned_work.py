"""What a study's runs will do, in pairs of a query and a document."""

from dataclasses import dataclass

from rankscale_utils.collections.collection import dev_form
from rankscale_utils.collections.readers import read_texts
from rankscale_utils.collections.sources import open_source
from rankscale_utils.study.collection import CollectionForm, PairsFile, TrecFiles
from rankscale_utils.study.objectives import Family
from rankscale_utils.study.study import Study
from rankscale_utils.training.run import plan_branches, planned_steps

TEST_QUERIES = 7000  # of an id of ir_datasets whose test does not say how many it has


@dataclass(frozen=True)
class PlannedWork:
    """What a family's runs on the whole collection do on any rung, in pairs.

    trained: cool-downs and sweeps included; scored: at evaluation; checkpoints: saved models.
    """

    trained: int
    scored: int
    checkpoints: int

    @classmethod
    def of(cls, study: Study, family: Family) -> "PlannedWork":
        """Count the work of a study's objectives of one family."""
        training = study.training
        objectives = [objective for name, objective in study.objectives.items() if study.family_of(name) == family]
        runs = sum(len(objective.seeds) for objective in objectives)
        tried = sum(len(objective.learning_rate.sweep) for objective in objectives)
        steps = planned_steps(plan_branches(study)) * runs
        checkpoints = len(training.exposures) * runs
        return cls(
            trained=steps * training.groups.pairs_per_step + training.exposures[0] * tried,
            scored=pairs_of_tests(study) * checkpoints,
            checkpoints=checkpoints,
        )


def pairs_of_tests(study: Study) -> int:
    """Return how many pairs a model scores once for all tests, and for what is learnt on other queries."""
    tests = list(study.evaluation.tests.values()) or [study.collection]
    queries = sum(queries_of_test(study, test) for test in tests)
    return (queries + (study.with_first_stage.queries if dev_form(study) else 0)) * study.evaluation.depth


def queries_of_test(study: Study, test: CollectionForm) -> int:
    """Return how many queries a test has: those in files of one's own, or as many as it says or is assumed.

    Of a test that is split off here no more are used than the study asks for; the docstrings are taken to have as many.
    """
    if isinstance(test, PairsFile):
        return min(len(open_source(study, test, "test").queries()), study.evaluation.queries)
    if isinstance(test, TrecFiles):
        return sum(1 for _ in read_texts(study.beside(test.queries)))
    return study.evaluation.queries if test == "docstrings" else test.queries or TEST_QUERIES
