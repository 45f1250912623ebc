# The study as a graph of notebooks: every rule leaves an executed notebook and a result file that stands whole.
# `make study STUDY=…` validates the study and runs this.
from rankscale_utils.machine.files import digest
from rankscale_utils.study.loading import load_study

study = load_study(config["study"])
NOTEBOOKS, RUNS, REPORTS = f"{workflow.basedir}/notebooks", study.folder, study.reports
GPU = int(config["kernel"] == "rankscale-gpu")
TRAINED = {run.name: run for run in study.all_runs}
LADDER, ANNOTATED = [run.name for run in study.runs], [run.name for run in study.annotation_runs]
FITTED = [run.name for run in study.fitted_runs + study.fitted_annotation_runs]
WRITTEN = f"{RUNS}/generated.json"  # of a generator's queries
SEVERAL = len(study.families) > 1  # families to compare
DEVICE = "OMP_NUM_THREADS={threads} python -m rankscale_utils.machine.device"
NOTEBOOK = (
    f" papermill {{input.notebook:q}} {{output.notebook:q}} -k {config['kernel']} --engine rankscale --no-progress-bar"
    f" -p study '{study.source}'"
)
PAPERMILL = DEVICE + NOTEBOOK
# After a stage: say that it is done, or show the end of its log.
CHECKED = (
    " > {log:q} 2>&1 || {{ tail -n 4 {log:q} >&2; exit 1; }};"
    " echo '{study.name}: {rule} {wildcards} done' >> \"${{RANKSCALE_PROGRESS:-/dev/stdout}}\""
)


def measured(runs):
    return [study.measurements_file] if study.measurements else [f"{RUNS}/{run}/measurements.parquet" for run in runs]


def executed():
    names = ["3_fit", "4_forecast", "5_allocate"] + ["6_speedup"] * bool(TRAINED)
    names += ["7_annotations"] * bool(ANNOTATED) + ["8_families"] * SEVERAL
    of_runs = [f"{RUNS}/{run}/{step}.ipynb" for run in TRAINED for step in ("1_train", "2_evaluate")]
    return of_runs + [f"{RUNS}/{name}.ipynb" for name in names]


# A report that outlived its results, as in a fresh clone, does not count as done.
rule all:
    input:
        executed(),
        [f"{RUNS}/{name}.csv" for name in ("sealed_forecasts", "forecasts", "allocation", *["speed"] * bool(TRAINED))],
        [f"{RUNS}/fixed_lengths.csv"] * bool(TRAINED),
        [f"{RUNS}/{name}.csv" for name in ("sealed_annotations", "annotations") if ANNOTATED],
        [f"{RUNS}/families.csv"] * SEVERAL,
        f"{REPORTS}/index.html",

rule index:
    input: executed(), template=f"{workflow.basedir}/rankscale_utils/report/template"
    output: f"{REPORTS}/index.html"
    log: f"{RUNS}/logs/report.log"
    shell: "python -m rankscale_utils.report.publish '{study.source}'" + CHECKED

rule collection:
    input: list(study.input_files)
    output: [f"{RUNS}/{name}.json" for name in ("collection", "ladder", "contract")]
    params: settings=digest([study.settings_of(run) for run in study.runs], study.evaluation.model_dump())
    threads: workflow.cores
    log: f"{RUNS}/logs/collection.log"
    shell: "python -m rankscale_utils.pipeline.prepare '{study.source}'" + CHECKED

# Beside the runs that do not wait for it, and before them, as it takes longest.
rule generated:
    input: f"{RUNS}/collection.json"
    output: WRITTEN
    params: settings=digest(study.annotated_by("generated")) if study.annotations else ""
    threads: study.training.threads if study.training else 1
    priority: 15
    resources: gpu=GPU
    log: f"{RUNS}/logs/generated.log"
    shell: DEVICE + " python -m rankscale_utils.pipeline.prepare '{study.source}' generated" + CHECKED

# A held-out run is trained only once its forecast is sealed. Editing a notebook's prose trains nothing again.
rule train:
    input:
        collection=f"{RUNS}/collection.json",
        seal=lambda wildcards: [] if wildcards.run in FITTED else f"{RUNS}/sealed_forecasts.csv",
        written=lambda wildcards: [WRITTEN] * (TRAINED[wildcards.run].source == "generated"),
        notebook=ancient(f"{NOTEBOOKS}/1_train.ipynb"),
    output: notebook=f"{RUNS}/{{run}}/1_train.ipynb", result=update(f"{RUNS}/{{run}}/ledger.json")
    params: settings=lambda wildcards: digest(study.settings_of(TRAINED[wildcards.run]))
    threads: study.training.threads if study.training else 1
    priority: 10
    resources: gpu=GPU * (study.training.gpus if study.training else 1)
    log: f"{RUNS}/logs/{{run}}.train.log"
    shell: DEVICE + " --gpus {resources.gpu}" + NOTEBOOK + " -p run {wildcards.run}" + CHECKED

rule evaluate:
    input: result=rules.train.output.result, notebook=ancient(f"{NOTEBOOKS}/2_evaluate.ipynb")
    output: notebook=f"{RUNS}/{{run}}/2_evaluate.ipynb", result=f"{RUNS}/{{run}}/measurements.parquet"
    params: settings=digest(study.evaluation.model_dump())
    threads: study.training.threads if study.training else 1
    priority: 20
    resources: gpu=GPU
    log: f"{RUNS}/logs/{{run}}.evaluate.log"
    shell: PAPERMILL + " -p run {wildcards.run}" + CHECKED

rule fit:
    input: measured(FITTED), notebook=f"{NOTEBOOKS}/3_fit.ipynb"
    output:
        [f"{RUNS}/sealed_annotations.csv"] * bool(ANNOTATED),
        notebook=f"{RUNS}/3_fit.ipynb",
        fits=f"{RUNS}/fits.json",
        sealed=f"{RUNS}/sealed_forecasts.csv",
    params: settings=digest(study.forecasting.model_dump(), study.held_out.model_dump())
    priority: 30
    log: f"{RUNS}/logs/3_fit.log"
    shell: PAPERMILL + CHECKED

rule forecast:
    input: measured(LADDER), sealed=rules.fit.output.sealed, notebook=f"{NOTEBOOKS}/4_forecast.ipynb"
    output: notebook=f"{RUNS}/4_forecast.ipynb", result=f"{RUNS}/forecasts.csv"
    log: f"{RUNS}/logs/4_forecast.log"
    shell: PAPERMILL + CHECKED

rule allocate:
    input: measured(LADDER), fits=rules.fit.output.fits, notebook=f"{NOTEBOOKS}/5_allocate.ipynb"
    output: notebook=f"{RUNS}/5_allocate.ipynb", result=f"{RUNS}/allocation.csv"
    params: settings=digest(study.allocation.model_dump())
    log: f"{RUNS}/logs/5_allocate.log"
    shell: PAPERMILL + CHECKED

# Alone on the machine: its clock would otherwise measure the other rules.
rule speedup:
    input: measured(LADDER), sealed=rules.fit.output.sealed, notebook=f"{NOTEBOOKS}/6_speedup.ipynb"
    output:
        f"{RUNS}/fixed_lengths.csv",
        notebook=f"{RUNS}/6_speedup.ipynb",
        result=f"{RUNS}/speed.csv",
        per_query=f"{RUNS}/speed_per_query.parquet",
    threads: workflow.cores
    resources: gpu=GPU
    log: f"{RUNS}/logs/6_speedup.log"
    shell: PAPERMILL + CHECKED

if ANNOTATED:
    rule annotate:
        input:
            measured(ANNOTATED),
            sealed=f"{RUNS}/sealed_annotations.csv",
            notebook=f"{NOTEBOOKS}/7_annotations.ipynb",
        output: notebook=f"{RUNS}/7_annotations.ipynb", result=f"{RUNS}/annotations.csv"
        params: settings=digest(study.allocation.model_dump())
        log: f"{RUNS}/logs/7_annotations.log"
        shell: PAPERMILL + CHECKED

if SEVERAL:
    rule families:
        input:
            measured(LADDER),
            speed=rules.speedup.output.result,
            per_query=rules.speedup.output.per_query,
            notebook=f"{NOTEBOOKS}/8_families.ipynb",
        output: notebook=f"{RUNS}/8_families.ipynb", result=f"{RUNS}/families.csv"
        log: f"{RUNS}/logs/8_families.log"
        shell: PAPERMILL + CHECKED
