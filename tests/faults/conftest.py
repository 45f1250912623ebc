"""How many random inputs are tried: the same few in CI, others for as long as `make fuzz` is given."""

import os
import shutil
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.faults.finished import run, write, write_measured

FUZZ = "RANKSCALE_FUZZ"  # the seed that `make fuzz` runs
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", derandomize=True, max_examples=60, **COMMON)
settings.register_profile("fuzz", max_examples=200, phases=[Phase.generate], **COMMON)  # to shrink takes minutes
settings.load_profile("fuzz" if os.environ.get(FUZZ) else "ci")


def few(ci, fuzz):
    """Return what runs a costly test for so many seeds: always the same ones in CI, others in `make fuzz`."""
    first = int(os.environ.get(FUZZ, 0))
    return pytest.mark.parametrize("seed", range(first, first + (fuzz if first else ci)))


def _finished(root, writes):
    """Write a study, run it to its end and return its root."""
    writes(root)
    run(root)
    return root


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A study that trains, run to its end."""
    return _finished(tmp_path_factory.mktemp("finished"), write)


@pytest.fixture(scope="session")
def finished_measured(tmp_path_factory):
    """A study of measurements, run to its end."""
    return _finished(tmp_path_factory.mktemp("measured"), write_measured)


@contextmanager
def _lent(finished, kept):
    """Lend a finished study, to be damaged, under its own path, as Snakemake knows files by their names."""
    shutil.copytree(finished, kept, symlinks=True)
    try:
        yield finished
    finally:
        shutil.rmtree(finished)
        shutil.move(kept, finished)


@pytest.fixture
def root(finished, tmp_path):
    """The finished study that trains."""
    with _lent(finished, tmp_path / "kept") as lent:
        yield lent


@pytest.fixture
def measured_root(finished_measured, tmp_path):
    """The finished study of measurements."""
    with _lent(finished_measured, tmp_path / "kept") as lent:
        yield lent
