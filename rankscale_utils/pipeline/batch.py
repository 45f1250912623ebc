"""Run a whole study: `python -m rankscale_utils.pipeline.batch STUDY` (what `make study` runs).

The study is validated first, then Snakemake executes the notebooks; what is done stays done, and an interrupted study
goes on where it was.
"""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from rankscale_utils.errors import StudyError, one_sentence
from rankscale_utils.machine.device import gpus, visible_gpus
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study

from .warm import serving

CHECKOUT = Path(__file__).resolve().parents[2]


def check(study: Study) -> None:
    """Read what the study brings before any work is done.

    Raises:
        StudyError: the measurements cannot be fitted as they are, or a run wants more GPUs than there are.
    """
    wanted, there = (study.training.gpus, visible_gpus()) if study.training else (1, 0)
    if 0 < there < wanted:
        raise StudyError(f"training.gpus = {wanted}: this machine shows {there}: lower it or use a larger machine.")
    if study.measurements is not None:
        from rankscale_utils.measurements.reading import study_measurements as of_runs

        of_runs(study, fitted_only=False)


def command(study: Study, cores: int, gpu_count: int) -> list[str]:
    """Return Snakemake's command for a study. The study has its own lock, which dies with its process."""
    return [
        *(
            sys.executable,
            "-m",
            "snakemake",
            "--snakefile",
            str(CHECKOUT / "Snakefile"),
            "--directory",
            str(paths.ROOT),
        ),
        *("--cores", str(cores), "--resources", f"gpu={gpu_count}", "--nolock", "--rerun-incomplete"),
        *("--quiet", "all", "--config", f"study={study.source}"),
        f"kernel={'rankscale-gpu' if gpu_count else 'rankscale-cpu'}",
    ]


def run(study: Study) -> int:
    """Run a study and return Snakemake's exit status.

    Raises:
        StudyError: the same study is running already, or another one of that name keeps its results here.
    """
    study.folder.mkdir(parents=True, exist_ok=True)
    progress = paths.progress_file(study.folder)
    with _lock(study):
        _claim(study)
        progress.write_text("")
        environment = os.environ | {"RANKSCALE_PROGRESS": str(progress), "RANKSCALE_ROOT": str(paths.ROOT)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        warm = serving(paths.log_file(study.folder, "warm"), environment | {"PATH": path})
        with _shown(progress), warm as environment:
            return subprocess.call(command(study, os.cpu_count() or 1, gpus()), env=environment)


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
    other = Path(mark.read_text()) if mark.exists() else study.source
    if other != study.source and other.exists():
        raise StudyError(f"{study.folder} holds the results of {other}: rename {study.source.name} or move them away.")
    mark.write_text(str(study.source))


class _shown:
    """Print the lines that are added to a file while the block runs."""

    def __init__(self, path: Path) -> None:
        self.path, self.over = path, threading.Event()
        self.thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        with open(self.path) as lines:
            while True:
                last = self.over.is_set()
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


@one_sentence
def main(name: str) -> int:
    """Run the study of that name or path, and say where its report is."""
    study = load_study(name)
    check(study)
    study.check_files()
    began = time.monotonic()
    status = run(study)
    if status:
        print(f"rankscale: study {study.name} stopped; `make study STUDY={name}` goes on from here.", file=sys.stderr)
        return status
    print(f"{study.name}: {time.monotonic() - began:.0f} s\n{paths.index_file(study.reports)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
