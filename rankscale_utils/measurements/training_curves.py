"""The losses of a study's runs while they trained."""

from pathlib import Path

import pandas as pd

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json
from rankscale_utils.study import paths
from rankscale_utils.study.arguments import checked, optional, text
from rankscale_utils.study.loading import study_given
from rankscale_utils.study.study import Study

COLUMNS = ["run", "objective", "rung", "seed", "params_non_embedding", "status", "exposure", "loss"]


@checked(study=study_given, objective=optional(text))
def training_curves(study: Study | str | Path, objective: str | None = None) -> pd.DataFrame:
    """Return the training loss of every run that has ended, against training pairs, at its constant learning rate.

    Parameters
    ----------
    study
        A study that trains, its name, or its YAML's path.
    objective
        Of the runs; all where none is named. Losses of different objectives are different things.

    Returns
    -------
    pandas.DataFrame
        Columns run, objective, rung, seed, params_non_embedding, status (complete, or why the run failed), exposure
        (training pairs seen) and loss (mean of 20 steps, nats).

    Raises
    ------
    StudyError
        The study trains nothing, has no such objective, or no run of it has ended yet or is long enough; one sentence
        says which.

    Examples
    --------
    >>> import rankscale_utils as rankscale
    >>> try:
    ...     print(rankscale.training_curves("published"))
    ... except rankscale.StudyError as error:
    ...     print(error)
    study published brings its measurements and trains nothing: use a study that trains.
    """
    study = study_given(study)
    if not study.runs:
        raise StudyError(f"study {study.name} brings its measurements and trains nothing: use a study that trains.")
    if objective is not None and objective not in study.objectives:
        known = ", ".join(study.objectives)
        raise StudyError(f"objective = {objective!r} is not in study {study.name}: use one of {known}.")
    runs = [run for run in study.runs if objective in (None, run.objective)]
    files = [paths.ledger_file(study.run_folder(run)) for run in runs]
    ledgers = [read_json(file) for file in files if file.exists()]
    if not ledgers:
        raise StudyError(f"no run of {study.name} has ended yet: `make study STUDY={study.name}` trains them.")
    curves = [
        pd.DataFrame({"exposure": ledger["curve"]["pairs"], "loss": ledger["curve"]["loss"]}).assign(
            **{name: ledger[name] for name in COLUMNS[:-2]}
        )
        for ledger in ledgers
    ]
    table = pd.concat(curves, ignore_index=True)[COLUMNS]
    if table.empty:
        raise StudyError(
            f"the runs of {study.name} are too short for a curve, of which a point is the mean of 20 steps."
        )
    return table
