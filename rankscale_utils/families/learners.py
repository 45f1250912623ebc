"""Which learner trains a run."""

from rankscale_utils.collections import Collection
from rankscale_utils.collections.singles import singles
from rankscale_utils.families import Learner
from rankscale_utils.families.bi_encoder import BiEncoding
from rankscale_utils.families.cross_encoder import CrossEncoding
from rankscale_utils.families.ed2lm import Generation
from rankscale_utils.models.ladder import Model
from rankscale_utils.study import Run, Study


def learner(study: Study, run: Run, collection: Collection, model: Model) -> Learner:
    """Return a run's model with its objective, over the collection's texts."""
    settings, groups, pairs = study.objectives[run.objective], study.training.groups, collection.pairs()
    family = study.family_of(run.objective)
    if family == "cross_encoder":
        return CrossEncoding(model, pairs, run.objective, settings, groups)
    texts = singles(pairs, study.text, family, ended=run.objective == "generation")
    if family == "bi_encoder":
        return BiEncoding(model, *texts, collection.training_queries(), groups, settings.in_batch)
    return Generation(model, *texts, run.objective, settings, groups)
