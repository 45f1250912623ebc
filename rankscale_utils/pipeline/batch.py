"""Run a whole study: `python -m rankscale_utils.pipeline.batch STUDY [PROFILE]` (what `make study` runs).

The study is validated first, then Snakemake executes the notebooks; what is done stays done, and an interrupted study
goes on where it was.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TextIO

from filelock import FileLock, Timeout

from rankscale_utils.errors import StudyError, one_sentence
from rankscale_utils.machine.device import cores, gpus, visible_gpus
from rankscale_utils.machine.files import remove_halves, unwritable, write_json
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study

from . import cluster
from .repair import remove_damaged
from .stage import reason
from .warm import serving

# Of a rule that failed here; of one that failed as a job, `cluster.failures` knows more.
FAILED_RULE = re.compile(
    r"^Error in rule (\w+):\n(?!    message: SLURM)(?:    .*\n)*?    log: (.*?) \(check log", re.MULTILINE
)
LEADER = Path(__file__).with_name("leader.py")
PATIENCE = 10.0  # seconds in which stages that are told to stop may write what they have
# Where libraries keep what they remember, of a user without a home that can be written to.
OF_HOME = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")


def check(study: Study, on: str = "") -> None:
    """Read what the study brings before any work is done.

    Raises:
        StudyError: the measurements cannot be fitted as they are, a prepared study can never be forecast, a run wants
            more GPUs than there are, the cluster's file has mistakes, or a folder's name means something to Snakemake.
    """
    for place in (paths.ROOT, paths.shipped_folder()):
        if {"{", "}"} & set(str(place)):
            raise StudyError(f"{place} has braces in its name, which mean something to Snakemake: rename it.")
    check_training(study)
    if on:
        cluster.check_profile(on)
        cluster.read_cluster()
    wanted, there = (study.training.gpus, visible_gpus()) if study.training and not on else (1, 0)
    if 0 < there < wanted:
        raise StudyError(f"training.gpus = {wanted}: this machine shows {there}: lower it or use a larger machine.")
    if study.measurements is not None:
        from rankscale_utils.measurements.reading import study_measurements

        study_measurements(study, fitted_only=False)
    else:
        from .rehearse import rehearse_again

        rehearse_again(study)


def check_training(study: Study) -> None:
    """Make sure that a study which trains finds what it trains with.

    Raises:
        StudyError: it is not installed.
    """
    if study.measurements is None and find_spec("torch") is None:
        raise StudyError(f"study {study.name} trains, and torch is not installed: pip install 'rankscale[train]'.")


def command(study: Study, core_count: int, gpu_count: int, on: str = "") -> list[str]:
    """Write what the Snakefile is told of a study, and return Snakemake's command, here or by a cluster's profile.

    The study has its own lock, which lives as long as its processes.
    """
    told = {"study": str(study.source), "cores": core_count, "jobs": {}}
    where = ["--cores", str(core_count), "--resources", f"gpu={gpu_count}"]
    if on:
        from .jobs import asked_of  # here, since it takes seconds to import

        asks = cluster.read_cluster()
        told |= {"cores": asks.cpus, "jobs": asked_of(study, asks)}
        gpu_count, where = int(asks.gpus), cluster.options(study, on, asks)
    graph = f"rankscale_utils.pipeline.{'polling' if on == 'slurm' else 'graph'}"
    told["kernel"] = "rankscale-gpu" if gpu_count else "rankscale-cpu"
    write_json(paths.graph_file(study.folder), told)
    return [
        *(sys.executable, "-m", graph, "--snakefile", str(paths.shipped_folder() / "Snakefile")),
        *("--directory", str(paths.ROOT), "--nolock", "--rerun-incomplete"),
        *("--configfile", str(paths.graph_file(study.folder)), *where),
    ]


def run(study: Study, on: str = "") -> int:
    """Run a study and return Snakemake's exit status.

    Raises:
        StudyError: the same study is running already, another one of that name keeps its results here, or results
            cannot be written.
    """
    for folder in (study.folder, study.reports, *([paths.cache_folder()] if study.runs else [])):
        if lost := unwritable(folder):
            raise StudyError(f"{lost}.")
    progress = paths.progress_file(study.folder)
    with _lock(study) as lock:
        _claim(study)
        of_jobs = paths.progress_of_jobs(study.folder)
        for file in (progress, paths.failures_file(study.folder), *of_jobs.glob("*.log")):
            file.write_text("", encoding="utf-8")
        for folder in (study.reports, *([] if on else [study.folder])):  # where jobs of an earlier start may write
            remove_halves(folder)
        remove_damaged(study)
        environment = _environment(study, progress)
        graph, log = command(study, cores(), gpus(), on), paths.log_file(study.folder, "graph")
        with _shown(progress, of_jobs), ExitStack() as beside:
            log_of_warm = paths.log_file(study.folder, "warm")
            trains_here = bool(study.runs) and not on
            warm = beside.enter_context(serving(log_of_warm, environment, trains_here))
            if on == "slurm":
                warm = beside.enter_context(cluster.submitting(study, warm, environment))
            return _supervised(graph, warm, log, lock)


def _environment(study: Study, progress: Path) -> dict[str, str]:
    """Return the environment of a study's processes: UTF-8 whatever the locale, and folders that can be written to.

    They work in the root, whose files somebody else may have sent: nothing is imported from there.
    """
    given = os.environ | {"RANKSCALE_PROGRESS": str(progress), "RANKSCALE_ROOT": str(paths.ROOT), "PYTHONUTF8": "1"}
    given["PYTHONSAFEPATH"] = "1"
    given["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}"
    if not os.access(Path("~").expanduser(), os.W_OK):
        home = paths.home_folder(study.folder)
        given = {name: str(home / name.lower()) for name in OF_HOME} | given
    return given


def _supervised(graph: list[str], environment: dict[str, str], log: Path, lock: FileLock) -> int:
    """Run the graph in a process group of its own, which ends with this process and holds the study's lock meanwhile.

    Termination, hang-up and interruption are passed on, and waited for.
    """
    held = os.dup(lock._context.lock_file_fd)  # flock holds while a process has the file open
    with open(log, "wb") as out, os.fdopen(held):
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LEADER), str(os.getpid()), *graph],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=[held],
        )
        with _passing_on(child):
            return child.wait()


@contextmanager
def _passing_on(child: subprocess.Popen) -> Iterator[None]:
    """End the child's whole group when this process is told to end while the block runs, and say so."""

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    except BaseException:
        for number in before:  # once is enough
            signal.signal(number, signal.SIG_IGN)
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGINT)
            child.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _lock(study: Study) -> FileLock:
    lock = FileLock(paths.lock_file(study.folder))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise StudyError(f"study {study.name} is running already: wait for it, or stop it first.") from None
    return lock


def _claim(study: Study) -> None:
    """Mark the study's folder as this YAML's own, as results are kept by name alone."""
    mark = paths.source_mark(study.folder)
    other = Path(mark.read_text(encoding="utf-8", errors="replace")) if mark.exists() else study.source
    if other != study.source and "\0" not in str(other) and other.is_file():  # what else it holds is damage
        raise StudyError(f"{study.folder} holds the results of {other}: rename {study.source.name} or move them away.")
    mark.write_text(str(study.source), encoding="utf-8")


class _shown:
    """Print the lines that are added to a file, and to those in a folder, while the block runs."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder, self.over = path, folder, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        with ExitStack() as open_files:
            followed: dict[Path, TextIO] = {}
            while True:
                last = self.over.is_set()
                for path in {self.path, *self.folder.glob("*.log")} - set(followed):
                    followed[path] = open_files.enter_context(open(path, encoding="utf-8", errors="replace"))
                for lines in followed.values():
                    if text := lines.read():
                        sys.stdout.write(text)
                        sys.stdout.flush()
                if last:
                    return
                time.sleep(0.3)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def _failures(study: Study) -> list[str]:
    """Return why the study stopped: its stages' own sentences, or, where no stage failed, the graph's."""
    if lost := unwritable(study.folder):
        return [lost]
    stages = paths.failures_file(study.folder).read_text(encoding="utf-8").splitlines()
    log = paths.log_file(study.folder, "graph")
    graph = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    told = cluster.failures(study, graph, stages)
    lost = [
        f"{study.name}: {rule} was ended from outside before it could say why (its log is {own})"
        for rule, own in FAILED_RULE.findall(graph)
        if not any(own in sentence for sentence in told)
    ]
    return told + lost or [f"the graph of {study.name} failed: {reason(graph)} ({log})"]


@one_sentence
def main(name: str, on: str = "") -> int:
    """Run the study of that name or path, here or on a cluster by its profile, and say where its report is."""
    study = load_study(name)
    check(study, on)
    study.check_files()
    began = time.monotonic()
    status = run(study, on)
    if status:
        for sentence in _failures(study):
            print(f"rankscale: {sentence}", file=sys.stderr)
        print(f"rankscale: study {study.name} stopped; `make study STUDY={name}` goes on from here.", file=sys.stderr)
        return status
    print(f"{study.name}: {time.monotonic() - began:.0f} s\n{paths.index_file(study.reports)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
