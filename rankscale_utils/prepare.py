"""Prepare a study before any run starts: `python -m rankscale_utils.prepare STUDY`.

Leaves the collection in the cache, `collection.json`, its manifest, `contract.json`, what every test's numbers mean,
and `ladder.json`, every rung's honest counts.
"""

import sys

from rankscale_utils.annotated import source_folder
from rankscale_utils.collections import open_collection
from rankscale_utils.command import one_sentence
from rankscale_utils.evaluation import contract, scorer
from rankscale_utils.files import write_json
from rankscale_utils.models import ladder
from rankscale_utils.progress import say
from rankscale_utils.study import Study, load_study
from rankscale_utils.training import plan


def prepare(study: Study) -> None:
    """Build what the cache lacks, and count every rung's parameters."""
    ladder.check(study)
    say(f"{study.name}: preparing its collections")
    collection = open_collection(study)
    manifest, vocabulary = collection.manifest, collection.tokenizer().get_vocab_size()
    for objective in study.objectives:
        scorer(study, objective, collection)  # says what the tests lack
    for source in {run.source for run in study.annotation_runs}:
        say(f"{study.name}: annotated by {source}")
        source_folder(study, source, collection)
    rungs = {}
    for family in study.families:
        counts = {name: ladder.count(study, family, name, vocabulary) for name in study.ladder}
        rungs[family] = {
            name: {"params": count.total, "params_non_embedding": count.non_embedding} for name, count in counts.items()
        }
    exposures = [branch.exposure for branch in plan(study)]
    write_json(study.folder / "ladder.json", {"rungs": rungs, "exposures": exposures})
    write_json(study.folder / "collection.json", manifest)
    write_json(study.folder / "contract.json", {name: contract(study, collection, name) for name in collection.tests})
    say(f"{manifest['collection']}: {manifest['items']:,} training items from {manifest['train_queries']:,} queries")
    if left_out := sum(manifest["left_out"].values()):
        say(f"left out: {left_out:,} judgments, {manifest['left_out']}")
    for name, test in manifest["tests"].items():
        say(f"{name}: {test['test_queries']:,} test queries")


@one_sentence
def main(name: str) -> int:
    """Prepare the study of that name or path; return the exit status."""
    prepare(load_study(name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
