"""How many random inputs are tried: the same few in CI, others for as long as `make fuzz` is given."""

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.conftest import lent
from tests.faults.finished import run, write_measured

FUZZ = "RANKSCALE_FUZZ"  # the seed that `make fuzz` runs
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("ci", derandomize=True, max_examples=60, **COMMON)
settings.register_profile("fuzz", max_examples=200, phases=[Phase.generate], **COMMON)  # to shrink takes minutes
settings.load_profile("fuzz" if os.environ.get(FUZZ) else "ci")


def few(ci, fuzz):
    """Return what runs a costly test for so many seeds: always the same ones in CI, others in `make fuzz`."""
    first = int(os.environ.get(FUZZ, 0))
    return pytest.mark.parametrize("seed", range(first, first + (fuzz if first else ci)))


@pytest.fixture(scope="session")
def finished_measured(tmp_path_factory):
    """A study of measurements, run to its end."""
    root = tmp_path_factory.mktemp("measured")
    write_measured(root)
    run(root)
    return root


@pytest.fixture
def measured_root(finished_measured, tmp_path):
    """The finished study of measurements."""
    with lent(finished_measured, tmp_path / "kept") as borrowed:
        yield borrowed
