"""Where everything lies, by a `study`'s folder of results, a `run`'s in it, and a study's pages in `reports`."""

import os
import re
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
IN_CHECKOUT = (CHECKOUT / "Snakefile").is_file()
ROOT = Path(os.environ.get("RANKSCALE_ROOT", CHECKOUT if IN_CHECKOUT else Path.cwd()))
NO_NAME = re.compile(r"[^\w.]+")  # what a test's name may hold and a file's should not


def shipped_folder() -> Path:
    """Where notebooks, Snakefile, studies and CITATION.cff lie: the checkout, or what the wheel carries of it."""
    return CHECKOUT if IN_CHECKOUT else Path(__file__).resolve().parents[1] / "shipped"


def cache_folder() -> Path:
    """Where heavy things lie that studies share: texts, candidates, tokens."""
    return ROOT / "cache"


def study_folder(name: str) -> Path:
    """Where a study keeps its results."""
    return ROOT / "runs" / name


def graph_file(study: Path) -> Path:
    """What the Snakefile is told: which study, which kernel."""
    return study / "graph.json"


def home_folder(study: Path) -> Path:
    """What libraries keep where the user's own home cannot be written to."""
    return study / "home"


def failures_file(study: Path) -> Path:
    """Why stages failed when the study last ran, a sentence each."""
    return study / "failures.log"


def site_folder() -> Path:
    """Where the reports lie that the project shows."""
    return ROOT / "reports" / "site"


def site_index() -> Path:
    """The page that leads to every published study."""
    return site_folder() / "index.html"


def lock_file(folder: Path) -> Path:
    """What a process holds while it works in the folder of a study or run."""
    return folder / ".lock"


def notebook_file(folder: Path, name: str) -> Path:
    """An executed notebook of a study or run, by its name, such as 3_fit."""
    return folder / f"{name}.ipynb"


def measurements_file(folder: Path) -> Path:
    """The measurements of a run, or all of a study's."""
    return folder / "measurements.parquet"


def ledger_file(run: Path) -> Path:
    """What a run was, cost and ended with; written last."""
    return run / "ledger.json"


def per_query_file(run: Path) -> Path:
    """The metrics of every query and checkpoint."""
    return run / "per_query.parquet"


def run_depths_file(run: Path) -> Path:
    """The headline metric of every query when fewer candidates are reranked, at the last checkpoint."""
    return run / "depths.parquet"


def resume_file(run: Path) -> Path:
    """What an interrupted run goes on from."""
    return run / "resume.pt"


def torchrun_log(run: Path) -> Path:
    """What the processes of a run on several GPUs said."""
    return run / "torchrun.log"


def checkpoint_file(run: Path, exposure: int) -> Path:
    """The model of a run after `exposure` training pairs."""
    return run / f"exposure-{exposure:09d}"


def run_file(checkpoint: Path, test: str, searched: bool = False) -> Path:
    """The TREC run of a checkpoint on a test: its order of the candidates, or what it found itself."""
    name = NO_NAME.sub("-", test) + "-searched" * searched
    return checkpoint.with_name(f"{checkpoint.name}.{name}.run.gz")


def source_mark(study: Path) -> Path:
    """The path of the YAML that a study's results are of."""
    return study / "source.txt"


def progress_file(study: Path) -> Path:
    """What a study said while it ran."""
    return study / "progress.log"


def progress_of_jobs(study: Path) -> Path:
    """What each of a cluster's jobs said while it ran, a file each: machines that write into one lose lines."""
    return study / "progress"


def collection_file(study: Path) -> Path:
    """The manifest of a study's collection."""
    return study / "collection.json"


def ladder_file(study: Path) -> Path:
    """Every rung's counts and the exposures of the checkpoints."""
    return study / "ladder.json"


def contract_file(study: Path) -> Path:
    """What every test's numbers mean."""
    return study / "contract.json"


def system_folder(study: Path, name: str) -> Path:
    """Where the measurements of a model that exists lie."""
    return study / "systems" / name


def log_file(study: Path, name: str) -> Path:
    """What a rule or the server of kernels said."""
    return study / "logs" / f"{name}.log"


def written_file(study: Path, stage: str) -> Path:
    """The SHA-256 of every file that a stage wrote."""
    return study / "written" / f"{NO_NAME.sub('-', stage.strip())}.json"


def annotated_file(study: Path, source: str) -> Path:
    """The manifest of the pairs that a source annotated."""
    return study / f"{source}.json"


def learning_rate_file(study: Path, objective: str, rung: str) -> Path:
    """What the sweep of a rung's learning rate found."""
    return study / "learning_rates" / f"{objective}-{rung}.json"


STEPS_OF_RUNS = ("1_train", "2_evaluate")  # the notebooks that are executed for every run


def study_notebooks(study: Path) -> list[Path]:
    """The executed notebooks of a study that are there, in order."""
    return sorted(study.glob("[3-8]_*.ipynb"))


def fits_file(study: Path) -> Path:
    """Every law that was fitted."""
    return study / "fits.json"


def kept_fits_file(study: Path) -> Path:
    """The fits, for the notebooks that ask for them later."""
    return study / "fits.npz"


def sealed_forecasts_file(study: Path) -> Path:
    """The forecasts of the held-out rungs, sealed before their truth was readable; later ones lie beside them."""
    return study / "seals" / "sealed_forecasts.csv"


def token_file(seal: Path) -> Path:
    """The time-stamp token over a seal's hash."""
    return seal.with_suffix(".tsr")


def stamp_file(seal: Path) -> Path:
    """Which time-stamp authority was asked about a seal, and what it attests or why it does not."""
    return seal.with_suffix(".json")


def authority_file(study: Path) -> Path:
    """The certificates that tokens are checked against, in a zip of a study."""
    return study / "seals" / "authority.pem"


def sealed_annotations_file(study: Path) -> Path:
    """The forecasts of the runs on the most annotated pairs, sealed; later ones lie beside them."""
    return study / "seals" / "sealed_annotations.csv"


def speed_per_query_file(study: Path) -> Path:
    """The systems' values on every query."""
    return study / "speed_per_query.parquet"


def _csv(name: str) -> Callable[[Path], Path]:
    """Return what says where a study's table of that name lies."""
    return lambda study: study / f"{name}.csv"


references_file = _csv("references")  # every metric of every test by a random order, the first stage's, a perfect one
rehearsal_file = _csv("rehearsal")  # what a study will have to leave out, by its design alone
backtest_file = _csv("backtest")  # the fitted rungs, forecast from smaller ones
left_out_file = _csv("left_out")  # the series that could not be fitted or forecast, and why
changes_file = _csv("changes")  # what was dropped, filled in or read otherwise of the collection and the measurements
seals_file = _csv("seals")  # every seal of a study: what it rests on, when it was made, and whether pages show it
forecasts_file = _csv("forecasts")  # the averages' forecasts, scored
forecasts_by_law_file = _csv("forecasts_by_law")  # the forecasts of every averaged law, scored
baselines_file = _csv("baselines")  # the baselines' forecasts, scored
exponents_file = _csv("exponents")  # how the best size and exposure grow with compute
equal_compute_file = _csv("equal_compute")  # the law's pick beside the rung that was really best at equal compute
speed_file = _csv("speed")  # how fast and how well every system of a run reranks
fixed_lengths_file = _csv("fixed_lengths")  # how fast models rerank documents of fixed lengths
annotation_worth_file = _csv("annotation_worth")  # how many pairs of a source equal one human pair
annotations_file = _csv("annotations")  # the forecasts of the runs on the most annotated pairs, scored
with_first_stage_file = _csv("with_first_stage")  # what models and the first stage reach together
systems_file = _csv("systems")  # the models that exist beside the ladder
families_file = _csv("families")  # which family wins within which budget
predictability_file = _csv("predictability")  # which series can be forecast from their fitted runs, and why others not
multiverse_file = _csv("multiverse")  # the headline forecast under every other choice of the analyst
rung_differences_file = _csv("rung_differences")  # neighbouring rungs compared query by query
rungs_on_tests_file = _csv("rungs_on_tests")  # every rung on every test, beside the order as retrieved and a random one
depths_file = _csv("depths")  # quality against the number of candidates reranked, by rung
strange_runs_file = _csv("strange_runs")  # the fitted runs that are unlike the others
equal_size_file = _csv("equal_size")  # the families compared at the sizes of one of them

# Where each table of an analysis lies, by its field there.
ALLOCATION_FILES = {
    "optima": _csv("allocation"),
    "exponents": exponents_file,
    "equal_compute": equal_compute_file,
    "parabolas": _csv("parabolas"),
    "within_budget": _csv("budgets"),
    "least_cost": _csv("least_cost"),
    "next_runs": _csv("next_runs"),
}
ANNOTATION_FILES = {
    "coefficients": _csv("annotation_laws"),
    "exponents": _csv("annotation_exponents"),
    "worth": annotation_worth_file,
    "budgets": _csv("annotation_budgets"),
    "scored": annotations_file,
}


def zip_file(reports: Path) -> Path:
    """All that a reader needs to check a study, in one file."""
    return reports / f"{reports.name}.zip"


def index_file(reports: Path) -> Path:
    """The first page of a study."""
    return reports / "index.html"


def page_file(reports: Path, notebook: str) -> Path:
    """The page of a study's notebook, or of those of all its runs."""
    return reports / f"{notebook[2:]}.html"
