"""A finished study: how it is written and run, and what every file of it says, but for times."""

import gzip
import os
import re
import signal
import subprocess
import sys
import time
import zipfile

import numpy as np
import pandas as pd
import yaml

from rankscale_utils.machine.files import RESULTS, digest, read_json

STUDY = {
    "docstrings": {"packages": ["jinja2", "networkx", "tornado"]},
    "text": {"vocabulary": 512, "query_tokens": 12, "pair_tokens": 32},
    "ladder": {f"w{hidden}": {"hidden": hidden, "layers": 1} for hidden in (4, 6, 8, 12)},
    "objectives": {"listwise": {"seeds": [0], "learning_rate": {"base": 2e-3}}},
    # Exposures long enough to be stopped in their midst.
    "training": {"exposures": [2400, 4800, 9600], "warmup_steps": 2, "groups": {"queries_per_step": 8}},
    "evaluation": {"queries": 40, "depth": 10, "metrics": ["nDCG@10", "RR@10"]},
    "with_first_stage": True,
    "held_out": {"rungs": ["w12"]},
    "forecasting": {"metrics": ["nDCG@10"], "draws": 100},
}
MEASURED = {"measurements": "ladder.csv", "held_out": {"rungs": ["16m"]}, "forecasting": STUDY["forecasting"]}
MARK = "ran"  # the folder that hostile modules leave
TIMED = {"sealed_at", "sealed_sha256", "other_seals", "seconds", "pairs_per_second", "device", "hardware"}
# What a clock measured, and what tells of this machine's day rather than of the study.
BY_THE_CLOCK = re.compile(
    r"(^|/)(speed|fixed_lengths|6_speedup|equal_size)|\.lock(\.\d+)?$|/logs/|\.log$|graph\.json$|/home/|\.snakemake"
)
MOMENTS = re.compile(
    r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?)?|\d\d:\d\d(:\d\d)?|[0-9a-f]{12,64}|"
    r"[\d,.]+ (pairs/s|checkpoints/s|s\b|ms\b|minutes?)"
)


def write(root, **changes):
    """Write the tiny study that trains, some of its fields changed."""
    (root / "params").mkdir(exist_ok=True)
    (root / "params" / "tiny.yaml").write_text(yaml.safe_dump(STUDY | changes))


def write_measured(root):
    """Write a tiny study of measurements, which takes half a minute, in a root whose own modules are a stranger's."""
    (root / "params").mkdir(exist_ok=True)
    for name in ("argparse", "seaborn", "pandas"):  # a study's processes work there
        (root / f"{name}.py").write_text(f"import os\n\nos.mkdir({str(root / MARK)!r})\n")
    (root / "params" / "tiny.yaml").write_text(yaml.safe_dump(MEASURED))
    rows = [
        {"objective": "listwise", "rung": f"{size}m", "params": size * 1e6, "exposure": exposure, "collection": "dev",
         "metric": "nDCG@10",
         "value": 0.6 - 0.3 * size**-0.5 - 3 * exposure**-0.6 + 0.002 * ((size * exposure) % 7 - 3) / 3}
        for size in (1, 2, 4, 8, 16) for exposure in (1000, 2000, 4000, 8000)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "params" / "ladder.csv", index=False)


def start(root, environment=(), study="tiny"):
    """Start the study; it leads a process group of its own."""
    given = {name: value for name, value in os.environ.items() if name != RESULTS} | {"RANKSCALE_ROOT": str(root)}
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", study]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "errors": "replace"}
    return subprocess.Popen(command, env=given | dict(environment), start_new_session=True, **streams)


def run(root, status=0, environment=(), study="tiny"):
    """Run the study; return what it said."""
    process = start(root, environment, study)
    said, _ = process.communicate(timeout=600)
    assert bool(process.returncode) == bool(status), said[-3000:]
    return said


def kill_while_training(root, study="tiny"):
    """Start the study, and end it and all its processes once a run has been measured."""
    process, until = start(root, study=study), time.monotonic() + 240
    while not list((root / "runs").glob(f"{study}/*/measurements.parquet")):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (root / "reports" / study / "index.html").exists()


def files(root):
    """Return every file that the study wrote and that is not about a clock or a machine, by its path there."""
    every = [
        path for part in ("runs", "reports", "cache") for path in sorted((root / part).rglob("*")) if path.is_file()
    ]
    named = {path.relative_to(root).as_posix(): path for path in every}
    return {name: path for name, path in named.items() if not BY_THE_CLOCK.search(name)}


def contents(root, but=()):
    """Return what every file of a study says, but for some, by its path, in a form that can be compared."""
    return {name: _said(path, root) for name, path in files(root).items() if name not in but}


def _said(path, root):
    match path.suffix:
        case ".parquet":
            return pd.read_parquet(path).to_csv(float_format=lambda number: float(number).hex())
        case ".csv":
            table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.stat().st_size > 1 else pd.DataFrame()
            return table[[name for name in table if name not in TIMED]].to_csv()
        case ".json":
            value = read_json(path)
            return (
                sorted(value)
                if path.parent.name == "written" or path.name.endswith(".built.json")
                else _timeless(value)
            )
        case ".gz":
            return digest(gzip.decompress(path.read_bytes()))
        case ".zip":  # its tables are those of the study's folder
            with zipfile.ZipFile(path) as archive:
                return archive.namelist()
        case ".npz":
            with np.load(path) as arrays:
                return {name: digest(arrays[name].tobytes()) for name in arrays.files}
        case ".ipynb":
            return [
                (
                    _without_moments("".join(cell["source"]), root),
                    [_shown(output) for output in cell.get("outputs", [])],
                )
                for cell in read_json(path)["cells"]
            ]
        case ".html" | ".txt":
            return _without_moments(path.read_text(encoding="utf-8"), root)
    return digest(path)


def _without_moments(text, root):
    return MOMENTS.sub("T", text.replace(str(root), ""))


def _shown(output):
    text = output.get("text") or output.get("data", {}).get("text/plain") or ""
    return MOMENTS.sub("T", "".join(text))


def _timeless(value):
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name not in TIMED}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def differences(before, after):
    """Return the files that are not in both or do not say the same."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def seals(root):
    """Return every seal's bytes and time."""
    found = sorted((root / "runs" / "tiny" / "seals").glob("*.csv"))
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in found}
