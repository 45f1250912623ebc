"""What a study costs, here and on a cluster: `python -m rankscale_utils.pipeline.plan STUDY`, or `make plan`."""

import sys

from rankscale_utils.errors import one_sentence
from rankscale_utils.study.loading import load_study

from .batch import check_training
from .cluster import read_cluster


@one_sentence
def main(name: str) -> int:
    """Print what a study costs; return the exit status."""
    study = load_study(name)
    if study.measurements:
        print(f"{study.name} brings its measurements: nothing is trained, so there is nothing to plan.")
    else:
        check_training(study)
        study.check_files()
        from .estimate import estimate_text, measure_machine, tokens_of_a_pair  # here, since they need torch
        from .jobs import cluster_text

        cluster = read_cluster()
        print(estimate_text(study, measure_machine(study), *tokens_of_a_pair(study)))
        print(cluster_text(study, cluster))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
