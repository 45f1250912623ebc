# The study as a graph of notebooks: every rule leaves an executed notebook and a result file that stands whole.
# `make study STUDY=…` validates the study and runs this. Whatever a rule writes is written whole, so that an old result
# stands until the new one does (`update`); seals are no outputs, as nothing may remove them.
import os
from shutil import which

from rankscale_utils.machine.files import RESULTS as WHO_WRITES
from rankscale_utils.machine.files import digest, read_json
from rankscale_utils.pipeline import warm
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

os.environ[WHO_WRITES] = "write"
study = load_study(config["study"])
NOTEBOOKS, RESULTS, RUN = Path(workflow.basedir) / "notebooks", study.folder, study.folder / "{run}"
SYSTEM = paths.system_folder(RESULTS, "{system}")
GPU, CORES = int(config["kernel"] == "rankscale-gpu"), config["cores"]
TRAINED = {run.name: run for run in study.all_runs}
LADDER, ANNOTATED = [run.name for run in study.runs], [run.name for run in study.annotation_runs]
FITTED = [run.name for run in study.fitted_runs + study.fitted_annotation_runs]
CSV = study.measurements_file.read_text(encoding="utf-8-sig", errors="replace") if study.measurements else ""
WRITTEN = paths.annotated_file(RESULTS, "generated")  # of a generator's queries
SEVERAL = len(study.families) > 1  # families to compare
# Quoting is Snakemake's own (`:q`), so that no name or path can end as a command.
START = "OMP_NUM_THREADS={threads} python -m rankscale_utils.pipeline.stage"
NAMED = " --results {output:q} -- {study.name:q} '{rule} {wildcards}' {log:q}"
STAGE = START + NAMED
BESIDE = START + " --beside '{params.beside}'" + NAMED  # further files than a rule's own outputs
NOTEBOOK = (
    f" papermill {{input.notebook:q}} {{output.notebook:q}} -k {config['kernel']} --engine rankscale --no-progress-bar"
    " -p study {study.source:q}"
)
PREPARE = " python -m rankscale_utils.pipeline.prepare {study.source:q}"
PAPERMILL = STAGE + NOTEBOOK
RENDER = which(warm.RENDER) or f"python -m {warm.COMMANDS[warm.RENDER]}"  # where nothing is warm, it starts cold

wildcard_constraints:
    run="[^/]+",
    system="[^/]+",


def measured(runs):
    return [] if study.measurements else [paths.measurements_file(RESULTS / run) for run in runs]


def given(files):
    """Return what a user's files are, so that they are read again when they change, whatever their names hold."""
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def systems():
    return [paths.measurements_file(paths.system_folder(RESULTS, name)) for name in study.systems]


def beside_systems():
    return [paths.systems_file(RESULTS)] if study.systems else []


GIVEN = given(study.input_files)


def cells(name):
    """Return what a notebook says: opening or saving it changes its time and its outputs, and makes nothing stale."""
    return digest([cell["source"] for cell in read_json(NOTEBOOKS / f"{name}.ipynb")["cells"]])


def asks(rule):
    """Return what a rule's jobs ask a cluster for, each by its wildcards; nothing where they run on this machine."""
    jobs = {name: job for name, job in config["jobs"].items() if name.split()[0] == rule}
    fields = {field for job in jobs.values() for field in job}
    return {field: lambda wildcards, field=field: jobs[" ".join([rule, *wildcards])][field] for field in fields}


def executed():
    names = ["3_fit", "4_forecast", "5_allocate"] + ["6_speedup"] * bool(TRAINED)
    names += ["7_annotations"] * bool(ANNOTATED) + ["8_families"] * SEVERAL
    of_runs = [paths.notebook_file(RESULTS / run, step) for run in TRAINED for step in paths.STEPS_OF_RUNS]
    return of_runs + [paths.notebook_file(RESULTS, name) for name in names]


def results(*files, where=True):
    return [file(RESULTS) for file in files if where]


rule index:
    localrule: True
    input: executed(), template=str(paths.CHECKOUT / "rankscale_utils" / "report" / "template")
    output: update(paths.index_file(study.reports))
    params: beside="**/*.html"
    log: paths.log_file(RESULTS, "report")
    shell: BESIDE + " {RENDER} {study.source:q}"

rule collection:
    output:
        update(results(paths.collection_file, paths.ladder_file, paths.contract_file)),
        update(results(paths.references_file, paths.rehearsal_file)),
    params: settings=digest([study.settings_of(run) for run in study.runs], *study.measuring, GIVEN)
    threads: CORES
    resources: **asks("collection")
    log: paths.log_file(RESULTS, "collection")
    shell: STAGE + PREPARE

# Beside the runs that do not wait for it, and before them, as it takes longest.
rule generated:
    input: paths.collection_file(RESULTS)
    output: update(WRITTEN)
    params: settings=digest(study.annotated_by("generated")) if study.annotations else ""
    threads: study.training.threads if study.training else 1
    priority: 15
    resources: gpu=GPU, **asks("generated")
    log: paths.log_file(RESULTS, "generated")
    shell: STAGE + PREPARE + " generated"

# A held-out run is trained only once its forecast is sealed. Editing a notebook's prose trains nothing again.
rule train:
    input:
        collection=paths.collection_file(RESULTS),
        seal=lambda wildcards: ancient(results(paths.seals_file, where=wildcards.run not in FITTED)),
        written=lambda wildcards: [WRITTEN] * (TRAINED[wildcards.run].source == "generated"),
        notebook=ancient(NOTEBOOKS / "1_train.ipynb"),
    output: notebook=update(paths.notebook_file(RUN, "1_train")), result=update(paths.ledger_file(RUN))
    params: settings=lambda wildcards: digest(study.settings_of(TRAINED[wildcards.run]))
    threads: study.training.threads if study.training else 1
    priority: 10
    resources: gpu=GPU * (study.training.gpus if study.training else 1), **asks("train")
    log: paths.log_file(RESULTS, "{run}.train")
    shell: START + " --gpus {resources.gpu}" + NAMED + NOTEBOOK + " -p run {wildcards.run}"

rule evaluate:
    input: result=rules.train.output.result, notebook=ancient(NOTEBOOKS / "2_evaluate.ipynb")
    output:
        notebook=update(paths.notebook_file(RUN, "2_evaluate")),
        result=update(paths.measurements_file(RUN)),
        per_query=update(paths.per_query_file(RUN)),
        depths=update(paths.run_depths_file(RUN)),
    params: settings=digest(*study.measuring), beside="*.run.gz"
    threads: study.training.threads if study.training else 1
    priority: 20
    resources: gpu=GPU, **asks("evaluate")
    log: paths.log_file(RESULTS, "{run}.evaluate")
    shell: BESIDE + NOTEBOOK + " -p run {wildcards.run}"

# A model that exists is measured once, whatever is trained beside it.
rule system:
    input: paths.collection_file(RESULTS)
    output: result=update(paths.measurements_file(SYSTEM)), per_query=update(paths.per_query_file(SYSTEM))
    params:
        settings=lambda wildcards: digest(*study.measuring, study.systems[wildcards.system].model_dump()),
        beside="*.run.gz",
    threads: study.training.threads if study.training else 1
    priority: 5
    resources: gpu=GPU, **asks("system")
    log: paths.log_file(RESULTS, "{system}.system")
    shell: BESIDE + " python -m rankscale_utils.pipeline.system {study.source:q} {wildcards.system}"

rule fit:
    localrule: True
    input: measured(FITTED), notebook=ancient(NOTEBOOKS / "3_fit.ipynb")
    output:
        update(results(paths.backtest_file, paths.left_out_file)),
        update(results(paths.predictability_file, paths.strange_runs_file, paths.multiverse_file)),
        notebook=update(paths.notebook_file(RESULTS, "3_fit")),
        fits=update(paths.fits_file(RESULTS)),
        seals=update(paths.seals_file(RESULTS)),
    params:
        settings=digest(study.forecasting.model_dump(), study.held_out.model_dump(), CSV, cells("3_fit")),
        beside="*.npz",
    priority: 30
    log: paths.log_file(RESULTS, "3_fit")
    shell: BESIDE + NOTEBOOK

rule forecast:
    localrule: True
    input:
        measured(LADDER),
        systems(),
        seals=rules.fit.output.seals,
        universes=paths.multiverse_file(RESULTS),
        notebook=ancient(NOTEBOOKS / "4_forecast.ipynb"),
    output:
        update(results(paths.forecasts_by_law_file, paths.baselines_file)),
        update(results(paths.rung_differences_file, paths.rungs_on_tests_file, paths.measurements_file)),
        update(results(paths.systems_file, where=study.systems)),
        update(results(paths.with_first_stage_file, where=study.with_first_stage)),
        notebook=update(paths.notebook_file(RESULTS, "4_forecast")),
        result=update(paths.forecasts_file(RESULTS)),
    params: settings=digest(CSV, cells("4_forecast"))
    log: paths.log_file(RESULTS, "4_forecast")
    shell: PAPERMILL

rule allocate:
    localrule: True
    input:
        measured(LADDER),
        fits=rules.fit.output.fits,
        universes=paths.multiverse_file(RESULTS),
        notebook=ancient(NOTEBOOKS / "5_allocate.ipynb"),
    output:
        *update(results(*paths.ALLOCATION_FILES.values())),
        notebook=update(paths.notebook_file(RESULTS, "5_allocate")),
    params: settings=digest(study.allocation.model_dump(), CSV, cells("5_allocate"))
    log: paths.log_file(RESULTS, "5_allocate")
    shell: PAPERMILL

# Alone on the machine: its clock would otherwise measure the other rules.
rule speedup:
    input:
        measured(LADDER),
        systems(),
        beside_systems(),
        depths=[paths.run_depths_file(RESULTS / run) for run in LADDER],
        seals=rules.fit.output.seals,
        notebook=ancient(NOTEBOOKS / "6_speedup.ipynb"),
    output:
        update(results(paths.fixed_lengths_file, paths.depths_file)),
        notebook=update(paths.notebook_file(RESULTS, "6_speedup")),
        result=update(paths.speed_file(RESULTS)),
        per_query=update(paths.speed_per_query_file(RESULTS)),
    params: settings=digest(cells("6_speedup"))
    threads: CORES
    resources: gpu=GPU, **asks("speedup")
    log: paths.log_file(RESULTS, "6_speedup")
    shell: PAPERMILL

if ANNOTATED:
    rule annotate:
        localrule: True
        input:
            measured(ANNOTATED),
            seals=rules.fit.output.seals,
            notebook=ancient(NOTEBOOKS / "7_annotations.ipynb"),
        output:
            *update(results(*paths.ANNOTATION_FILES.values())),
            notebook=update(paths.notebook_file(RESULTS, "7_annotations")),
        params: settings=digest(study.allocation.model_dump(), cells("7_annotations"))
        log: paths.log_file(RESULTS, "7_annotations")
        shell: PAPERMILL

if SEVERAL:
    rule families:
        localrule: True
        input:
            measured(LADDER),
            beside_systems(),
            speed=rules.speedup.output.result,
            per_query=rules.speedup.output.per_query,
            notebook=ancient(NOTEBOOKS / "8_families.ipynb"),
        output:
            *update(results(paths.families_file, paths.equal_size_file)),
            notebook=update(paths.notebook_file(RESULTS, "8_families")),
        params: settings=digest(cells("8_families"))
        log: paths.log_file(RESULTS, "8_families")
        shell: PAPERMILL

# All that any rule writes: a report that outlived some of it, as in a fresh clone or after damage, does not count as done.
rule all:
    default_target: True
    localrule: True
    input:
        executed(),
        systems(),
        [
            file(RESULTS / run)
            for run in TRAINED
            for file in (paths.ledger_file, paths.measurements_file, paths.per_query_file, paths.run_depths_file)
        ],
        rules.collection.output if TRAINED else [],
        rules.fit.output,
        rules.forecast.output,
        rules.allocate.output,
        rules.speedup.output if TRAINED else [],
        rules.annotate.output if ANNOTATED else [],
        rules.families.output if SEVERAL else [],
        rules.index.output,
