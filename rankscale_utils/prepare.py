"""Prepare a study before any run starts: `python -m rankscale_utils.prepare STUDY`.

Leaves the collection in the cache, `collection.json`, its manifest, and `ladder.json`, every rung's honest counts.
"""

import sys

from rankscale_utils.collections import open_collection
from rankscale_utils.files import write_json
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import parameters
from rankscale_utils.progress import say
from rankscale_utils.study import Run, Study, load_study
from rankscale_utils.training import plan


def prepare(study: Study) -> None:
    """Build what the cache lacks, and count every rung's parameters."""
    say(f"{study.name}: preparing the collection {study.collection}")
    collection = open_collection(study)
    manifest, vocabulary = collection.manifest, collection.tokenizer().get_vocab_size()
    rungs = {}
    for name in study.ladder:
        counts = parameters(ladder.build(study, Run(objective="listwise", rung=name, seed=0), vocabulary))
        rungs[name] = {"params": counts.total, "params_non_embedding": counts.non_embedding}
    exposures = [branch.exposure for branch in plan(study)]
    write_json(study.folder / "ladder.json", {"rungs": rungs, "exposures": exposures})
    write_json(study.folder / "collection.json", manifest)
    say(f"{study.collection}: {manifest['pairs']:,} pairs, {manifest['test_queries']:,} test queries")


if __name__ == "__main__":
    prepare(load_study(sys.argv[1]))
