"""What follows training, run on a prepared study's design before the first step: see `analysis.dry_run`."""

import pandas as pd

from rankscale_utils.analysis.dry_run import check_names, rehearse
from rankscale_utils.analysis.results import read_table, write_table
from rankscale_utils.errors import Damaged
from rankscale_utils.machine.files import digest, read_json
from rankscale_utils.machine.progress import say
from rankscale_utils.study import paths
from rankscale_utils.study.study import Study


def prepared_for(study: Study) -> str:
    """Return a hash of what a study is prepared for, all but what follows training, and of its references."""
    settings = [study.settings_of(run) for run in study.runs]
    return digest(settings, *study.measuring, paths.references_file(study.folder))


def rehearse_study(study: Study, ladder: dict, references: pd.DataFrame) -> None:
    """Say what a study will have to leave out, and write it as `rehearsal.csv`.

    Raises:
        StudyError: the study could never be forecast.
    """
    left_out = rehearse(study, ladder, references)
    for sentence in left_out:
        say(f"{study.name}: will be left out: {sentence}")
    write_table(paths.rehearsal_file(study.folder), pd.DataFrame({"left_out": left_out}, dtype=str))


def rehearse_again(study: Study) -> None:
    """Rehearse a prepared study, whose settings of fits may have changed since, where training is still to come.

    Raises:
        StudyError: the study could never be forecast.
    """
    try:
        ladder = read_json(paths.ladder_file(study.folder))
        if ladder["prepared_for"] != prepared_for(study):
            return  # it is prepared anew, and then rehearsed
    except (FileNotFoundError, Damaged, KeyError):
        return
    references = read_table(paths.references_file(study.folder))
    if all(paths.ledger_file(study.run_folder(run)).exists() for run in study.runs):
        check_names(study, references)
    else:
        rehearse(study, ladder, references)
