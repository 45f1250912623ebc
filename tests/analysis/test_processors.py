"""The same measurements give the same forecast on every processor, so that a reader elsewhere can check a seal."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.measurements import published

FORECAST = """
import sys
import rankscale_utils as rankscale
table = rankscale.forecast(sys.argv[1], held_out=["400m", "1b"], checkpoints=10, draws=200)
table[["forecast", "lo", "hi"]].to_csv(sys.stdout, index=False)
"""


def _features() -> str:
    file = Path("/proc/cpuinfo")
    return file.read_text(encoding="utf-8") if file.exists() else ""


def forecast_by(kernel: str) -> pd.DataFrame:
    """Return forecasts made with one of OpenBLAS's kernels, which differ in the last digits, as processors do."""
    csv = f"{published.__path__[0]}/p0_measurements.csv"
    environment = os.environ | {"OPENBLAS_CORETYPE": kernel}
    run = subprocess.run(
        [sys.executable, "-c", FORECAST, csv], env=environment, capture_output=True, text=True, check=True
    )
    return pd.read_csv(StringIO(run.stdout))


@pytest.mark.skipif(
    "avx512vl" not in _features(), reason="this processor has no AVX-512, by which OpenBLAS's kernels differ"
)
def test_forecasts_are_those_of_other_processors():
    first, second = forecast_by("Haswell"), forecast_by("SkylakeX")
    width = (first["hi"] - first["lo"]).to_numpy()[:, None]
    assert len(first) == 2 * 2 * 3 * 2  # rungs, objectives, metrics, kinds of interval
    np.testing.assert_array_less(np.abs(first - second) / width, 1e-6)
