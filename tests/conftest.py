"""A tiny study over a small collection that the real builder made, and real data where there is some."""

import copy
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import yaml
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from rankscale_utils.collections import Collection, open_collection
from rankscale_utils.evaluation import clock
from rankscale_utils.machine import parallel
from rankscale_utils.machine.files import RESULTS
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study
from rankscale_utils.training.run import train
from tests.faults import finished as whole

REPOSITORY = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)
parallel.cores = lambda: 1  # the tests' own processes take all cores, and these are large to fork
TINY = {
    "title": "Rerankers that train in a second",
    "docstrings": {"packages": ["jinja2", "networkx", "tornado"]},  # about 1,800 pairs
    "text": {"vocabulary": 512, "query_tokens": 12, "pair_tokens": 48},
    "ladder": {"w4": {"hidden": 4}, "w6": {"hidden": 6}, "w8": {"hidden": 8}, "w12": {"hidden": 12}},
    "objectives": {"listwise": {"seeds": [0], "learning_rate": {"base": 3.0e-3}}},
    "training": {
        "exposures": [240, 480, 960],
        "groups": {"hard": 1, "random": 1, "hard_depth": 10, "queries_per_step": 4},
        "cooldown": 0.25,
        "warmup_steps": 5,
    },
    "evaluation": {"queries": 40, "depth": 10},
    "held_out": {"rungs": ["w12"]},
}


TOGETHER = ["test_slurm", "test_whole_study", "test_damage", "test_random_damage", "test_kills", "test_lab"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left alone with one at the end."""
    longest = [*TOGETHER, "test_searched_study", "test_cases", "test_chance_study", "test_families"]
    places = {name: place for place, name in enumerate(longest)}
    items.sort(key=lambda item: places.get(item.path.stem, len(longest)))


class ByFile(LoadFileScheduling):
    """Give each process whole files, and one of them all files that share a study that was run."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return TOGETHER[0] if Path(file).stem in TOGETHER else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores, as some tests wait for a cluster, a browser or a clock."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer | None) -> ByFile:
    """Return what divides the tests among processes."""
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def _writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let results be written, as the batch does, whatever a notebook opened before may have asked for."""
    monkeypatch.setenv(RESULTS, "write")


@pytest.fixture
def real_data() -> Path:
    """Return the folder of real data, which lies beside the repository or where RANKSCALE_DATA says."""
    folder = real_data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set RANKSCALE_DATA to the folder that holds it")
    return folder


def real_data_folder() -> Path:
    """Return where real data would lie."""
    return Path(os.environ.get("RANKSCALE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture
def minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2's real weights, beside the repository or where RANKSCALE_MODELS says."""
    folder = Path(os.environ.get("RANKSCALE_MODELS", Path(__file__).resolve().parents[2] / "shared" / "models"))
    if not (folder / "all-MiniLM-L6-v2").is_dir():
        pytest.skip(f"no real weights in {folder}; set RANKSCALE_MODELS to the folder that holds all-MiniLM-L6-v2")
    return folder / "all-MiniLM-L6-v2"


@pytest.fixture(scope="session")
def ir_datasets_home(tmp_path_factory) -> Path:
    """Return a writable IR_DATASETS_HOME that holds both folders of the real data, the miniature's MS MARCO on top."""
    given = real_data_folder()
    parts = [given / "ir_datasets_home", given / "ir_datasets_home_mini"]
    if not all(part.is_dir() for part in parts):
        pytest.skip(f"no ir_datasets home in {given}; set RANKSCALE_DATA to the folder that holds it")
    assert "ir_datasets" not in sys.modules, "ir_datasets looks for its folder when it is imported"
    home = tmp_path_factory.mktemp("ir_datasets")
    for part in parts:
        shutil.copytree(part, home, dirs_exist_ok=True)
    os.environ |= {"IR_DATASETS_HOME": str(home), "IR_DATASETS_SKIP_DISK_FREE": "true"}
    return home


def use_root(patch: pytest.MonkeyPatch, root: Path, cache: Path | None = None) -> None:
    """Let studies live under `root`, reading heavy things from `cache`."""
    patch.setattr(paths, "ROOT", root)
    patch.setenv("RANKSCALE_ROOT", str(root))
    (root / "params").mkdir()
    if cache is not None:
        (root / "cache").symlink_to(cache, target_is_directory=True)


def write_tiny(root: Path, name: str = "tiny", **changes: object) -> Study:
    """Write params/NAME.yaml with the tiny study's fields, some of them changed, and return the study."""
    fields = {field: value for field, value in (copy.deepcopy(TINY) | changes).items() if value is not None}
    (root / "params" / f"{name}.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    return load_study(name)


@pytest.fixture(scope="session")
def session_root(tmp_path_factory) -> Path:
    """Return a root whose cache holds the small collection and where the tiny ladder has been trained."""
    root = tmp_path_factory.mktemp("session")
    with pytest.MonkeyPatch.context() as patch:
        use_root(patch, root)
        tiny = write_tiny(root)
        small = open_collection(tiny)
        for run in tiny.runs:
            train(tiny, run, small, torch.device("cpu"))
    return root


@pytest.fixture
def new_study(tmp_path, monkeypatch, session_root) -> Callable[..., Study]:
    """Return what writes a study into a root of its own: new_study(name, field=value, …)."""
    use_root(monkeypatch, tmp_path, session_root / "cache")
    return lambda name="tiny", **changes: write_tiny(tmp_path, name, **changes)


@pytest.fixture
def tiny_study(new_study) -> Study:
    """Return the tiny study in a root of its own, untrained."""
    return new_study()


@pytest.fixture
def trained(tiny_study, session_root) -> Study:
    """Return the tiny study in a root of its own, every rung trained."""
    shutil.copytree(session_root / "runs" / tiny_study.name, tiny_study.folder)
    return tiny_study


@pytest.fixture
def collection(tiny_study) -> Collection:
    """Return the small collection."""
    return open_collection(tiny_study)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """Return the root of a study that trains, run to its end."""
    root = tmp_path_factory.mktemp("finished")
    whole.write(root)
    whole.run(root)
    return root


@contextmanager
def lent(finished: Path, kept: Path) -> Iterator[Path]:
    """Lend a finished study, to be damaged, under its own path, as Snakemake knows files by their names."""
    shutil.copytree(finished, kept, symlinks=True)
    try:
        yield finished
    finally:
        shutil.rmtree(finished)
        shutil.move(kept, finished)


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """Return the root of the finished study that trains, lent."""
    with lent(finished, tmp_path / "kept") as borrowed:
        yield borrowed


@pytest.fixture
def small_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let throughput be measured at one small batch alone, which takes seconds less."""
    whole = clock.throughput
    monkeypatch.setattr(clock, "throughput", lambda *given: whole(*given[:3], batches=(10,), repeats=1))


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """Return a headless Chromium, as playwright has it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here: pip install -r tests/requirements.txt"
    )
    if not (browser := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
