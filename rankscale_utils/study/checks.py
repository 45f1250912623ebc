"""What a section of a study may not say beside the sections before it: a sentence for every mistake.

`earlier` holds the valid fields before the one that is checked, by name; what is itself wrong is missing from it.
"""

from collections.abc import Iterator

from .collection import PairsFile
from .decoder import DecoderSettings
from .evaluation import Evaluation, WithFirstStage
from .forecasting import HeldOut
from .ladder import Pretrained, Rung
from .objectives import DISTILLED, FAMILY_OF, Objective
from .training import Annotations, Training


def unmet_training(training: Training | None, earlier: dict) -> Iterator[str]:
    """Random negatives have no score of a teacher, and LoRA changes what is pretrained."""
    shapes = [name for name, rung in earlier.get("ladder", {}).items() if isinstance(rung, Rung)]
    if training and training.lora and shapes:
        yield f"lora: {shapes} are trained from scratch, which leaves nothing to change: remove it"
    if training and training.groups.random and getattr(earlier.get("collection"), "teacher", None):
        yield "no teacher scores random negatives: set groups.random = 0, or remove collection.teacher"


def unusable_tests(evaluation: Evaluation, earlier: dict) -> Iterator[str]:
    """Tests name no teacher, and a collection without a test split of its own needs tests."""
    for name, test in evaluation.tests.items():
        if getattr(test, "teacher", None):
            yield f"tests.{name}.teacher: only training has a teacher: remove it"
    collection = earlier.get("collection", "docstrings")
    if not evaluation.tests and not isinstance(collection, str | PairsFile):
        yield (
            "this collection has no test split of its own: add tests, such as "
            "{dl19: {ir_datasets: msmarco-passage/trec-dl-2019/judged, candidates: scoreddocs}}"
        )


def mixed_ladder(ladder: dict, earlier: dict) -> Iterator[str]:
    """Shapes and pretrained rungs do not stand on one ladder."""
    kinds = {kind: [name for name, rung in ladder.items() if isinstance(rung, kind)] for kind in (Rung, Pretrained)}
    if kinds[Rung] and earlier.get("decoder", DecoderSettings()) != DecoderSettings():
        yield f"{kinds[Rung]} are trained from scratch, and none of them is a decoder: remove decoder, or name decoders"
    if all(kinds.values()):
        yield (
            f"{kinds[Rung]} are trained from scratch and {kinds[Pretrained]} are pretrained, which is no ladder of "
            "sizes alone: drop one side"
        )


def unmet_objectives(objectives: dict[str, Objective], earlier: dict) -> Iterator[str]:
    """What each objective needs: its rates, its family, negatives, a teacher."""
    ladder = list(earlier.get("ladder", {}))
    for name, settings in objectives.items():
        if (rates := settings.learning_rate.of) and ladder and (wrong := set(rates) ^ set(ladder)):
            yield (
                f"{name}.learning_rate.of names {list(rates)}, but the rungs are {ladder}: give a rate for each of "
                f"them and for no other ({', '.join(sorted(wrong))})"
            )
        if settings.temperature and name not in ("listwise", "contrastive"):
            yield f"{name}.temperature: only listwise and contrastive have a softmax to cool: remove it"
        family = FAMILY_OF.get(name, earlier.get("family"))
        if family == "bi_encoder" and name not in FAMILY_OF:
            yield f"{name} compares the scores of pairs, which a bi_encoder does not read: write contrastive"
        if settings.in_batch and family != "bi_encoder":
            yield f"{name}.in_batch: only contrastive has a batch's documents as negatives: remove it"
        if (training := earlier.get("training")) and training.groups.size == 1 and not settings.in_batch:
            yield f"{name} has no negatives with training.groups.hard = random = 0: raise one of them" + (
                ", or set in_batch: true" if family == "bi_encoder" else ""
            )
        if settings.score and family != "ed2lm":
            yield f"{name}.score: only ed2lm has several scores: remove it"
        if name in DISTILLED and "collection" in earlier and not getattr(earlier["collection"], "teacher", None):
            yield f"{name} learns from a teacher's scores: name a TREC run of them as collection.teacher"


def annotations_without_retriever(annotations: Annotations | None, earlier: dict) -> Iterator[str]:
    """Runs on annotated pairs train a bi-encoder, without hard negatives, on rungs of the ladder."""
    if not annotations:
        return
    if "contrastive" not in earlier.get("objectives", {"contrastive": None}):
        yield "they train the objective contrastive, which the study has not: add it, or remove annotations"
    if (training := earlier.get("training")) and training.groups.hard:
        yield f"no first stage finds hard = {training.groups.hard} negatives for new queries: set groups.hard = 0"
    ladder = list(earlier.get("ladder", {}))
    if unknown := [rung for rung in annotations.rungs if ladder and rung not in ladder]:
        yield f"rungs {unknown} are not on the ladder {ladder}: name rungs of it"


def unusable_dev(wanted: WithFirstStage | None, earlier: dict) -> Iterator[str]:
    """Queries that a weight is learnt on are neither trained nor tested."""
    if wanted and earlier.get("measurements"):
        yield "a study that brings its measurements measures nothing: remove with_first_stage"
    if wanted and wanted.dev is not None and not isinstance(wanted.dev, str | PairsFile):
        tests = getattr(earlier.get("evaluation"), "tests", {})
        if wanted.dev in (earlier.get("collection"), *tests.values()):
            yield "dev is trained or tested on: name a collection of other queries"


def systems_without_tests(systems: dict, earlier: dict) -> Iterator[str]:
    """What exists is measured on the tests of a study that trains."""
    if systems and earlier.get("measurements"):
        yield "a study that brings its measurements has no texts to measure models on: remove systems"


def too_little_left(held_out: HeldOut, earlier: dict) -> Iterator[str]:
    """What is held out is on the ladder, leaves three rungs to fit, and is not trained on annotations before."""
    if ladder := list(earlier.get("ladder", {})):
        if unknown := [rung for rung in held_out.rungs if rung not in ladder]:
            yield f"{unknown} are not on the ladder {ladder}: name rungs of it"
        if len(fitted := [rung for rung in ladder if rung not in held_out.rungs]) < 3:
            yield (
                f"{fitted} are left, but a size law needs three fitted rungs or more: lengthen the ladder or "
                "hold out fewer"
            )
    annotated = getattr(earlier.get("annotations"), "rungs", ())
    if both := [rung for rung in annotated if rung in held_out.rungs]:
        yield f"{both} are trained on annotations before their forecast is sealed: choose other annotations.rungs"
