"""Where everything lies: the only module that knows the names of files."""

import os
import re
from pathlib import Path

ROOT = Path(os.environ.get("RANKSCALE_ROOT", Path(__file__).resolve().parents[2]))
NO_NAME = re.compile(r"[^\w.]+")  # what a test's name may hold and a file's should not


def cache_folder() -> Path:
    """Where heavy things lie that studies share: texts, candidates, tokens."""
    return ROOT / "cache"


def checkpoint_file(folder: Path, exposure: int) -> Path:
    """Where the model of a run after `exposure` training pairs lies."""
    return folder / f"exposure-{exposure:09d}"


def run_file(checkpoint: Path, test: str) -> Path:
    """Return where the TREC run of a checkpoint on a test lies."""
    return checkpoint.with_name(f"{checkpoint.name}.{NO_NAME.sub('-', test)}.run.gz")


def sealed_forecasts_file(study: Path) -> Path:
    """Where the sealed forecasts of a study's folder lie."""
    return study / "sealed_forecasts.csv"


def sealed_annotations_file(study: Path) -> Path:
    """Where the sealed forecasts of the most annotations lie."""
    return study / "sealed_annotations.csv"
