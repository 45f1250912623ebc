"""Prepare a study before any run starts: `python -m rankscale_utils.pipeline.prepare STUDY`.

Leaves the collection in the cache, `collection.json`, its manifest, `contract.json`, what every test's numbers mean,
`references.csv`, what these lie between, and `ladder.json`, every rung's honest counts. What follows training is run on
this design first, so that what can never work is refused, and what will be left out is said, before the first step.

A generator's queries take minutes and few runs wait for them, so that `python -m rankscale_utils.pipeline.prepare STUDY
generated` writes them beside the others' training, and `generated.json`.
"""

import sys
from pathlib import Path

from rankscale_utils.analysis.results import write_table
from rankscale_utils.collections import Collection, open_collection
from rankscale_utils.errors import one_sentence
from rankscale_utils.evaluation.contract import contracts
from rankscale_utils.evaluation.scorers import references
from rankscale_utils.machine.files import read_json, write_json
from rankscale_utils.machine.progress import say
from rankscale_utils.models.build import count_rung
from rankscale_utils.models.checks import check_pretrained, start_of
from rankscale_utils.models.published import check_systems
from rankscale_utils.models.whole_rungs import whole_rungs
from rankscale_utils.report.verdicts import whole_sentence
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study
from rankscale_utils.training.annotation_sources import GENERATED, build_source
from rankscale_utils.training.run import plan_branches

from .rehearse import prepared_for, rehearse_study


def prepare(study: Study) -> None:
    """Build what the cache lacks, count every rung's parameters, and rehearse what follows training.

    Raises:
        StudyError: the study could never be forecast; see `analysis.dry_run`.
    """
    check_pretrained(study)
    check_systems(study)
    for rung in study.pretrained:
        for family in study.families:
            say(f"{family} {rung} starts from weights: {start_of(study, family, rung)}")
    say(f"{study.name}: preparing its collections")
    collection = open_collection(study)
    manifest, vocabulary = collection.manifest, collection.tokenizer().get_vocab_size()
    between = references(study, collection)  # says what the tests lack
    for source in {run.source for run in study.annotation_runs} - {GENERATED}:
        annotate(study, source, collection)
    rungs = {}
    for family in study.families:
        counts = {name: count_rung(study, family, name, vocabulary) for name in study.ladder}
        rungs[family] = {
            name: {"params": count.total, "params_non_embedding": count.non_embedding} for name, count in counts.items()
        }
    exposures = [branch.exposure for branch in plan_branches(study)]
    write_table(paths.references_file(study.folder), between)
    ladder = {"rungs": rungs, "exposures": exposures, "whole": whole_rungs(study), "prepared_for": prepared_for(study)}
    if ladder["whole"]:
        say(f"{study.name}: {whole_sentence(ladder['whole'])}")
    rehearse_study(study, ladder, between)
    write_json(paths.ladder_file(study.folder), ladder)
    write_json(paths.collection_file(study.folder), manifest)
    write_json(paths.contract_file(study.folder), contracts(study, collection))
    say(f"{manifest['collection']}: {manifest['items']:,} training items from {manifest['train_queries']:,} queries")
    if left_out := sum(manifest["left_out"].values()):
        say(f"left out: {left_out:,} judgments, {manifest['left_out']}")
    for name, test in manifest["tests"].items():
        say(f"{name}: {test['test_queries']:,} test queries")


def annotate(study: Study, source: str, collection: Collection) -> Path:
    """Return the folder of a source's annotated pairs, building it where the cache lacks it."""
    say(f"{study.name}: annotated by {source}")
    return build_source(study, source, collection)


@one_sentence
def main(name: str, source: str = "") -> int:
    """Prepare the study of that name or path, or one of its annotation sources; return the exit status."""
    study = load_study(name)
    if source:
        folder = annotate(study, source, open_collection(study))
        write_json(paths.annotated_file(study.folder, source), read_json(folder / "manifest.json"))
    else:
        prepare(study)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
