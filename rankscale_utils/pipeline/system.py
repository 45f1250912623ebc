"""Measure a model that exists: `python -m rankscale_utils.pipeline.system STUDY SYSTEM` (a rule of the Snakefile)."""

import sys

from rankscale_utils.collections import open_collection
from rankscale_utils.errors import one_sentence
from rankscale_utils.evaluation.systems import evaluate_system
from rankscale_utils.machine.device import compute_device
from rankscale_utils.study.loading import load_study


@one_sentence
def main(study_name: str, system: str) -> int:
    """Measure a study's system; return the exit status."""
    study = load_study(study_name)
    evaluate_system(study, system, open_collection(study), compute_device(study.training.threads))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
