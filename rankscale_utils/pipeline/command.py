"""The command `rankscale`: what `make` does in a checkout, wherever the package is installed.

Results land in the working folder: `runs/STUDY` and `reports/STUDY`.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rankscale_utils.errors import StudyError, one_sentence
from rankscale_utils.study import paths

FORECAST_COLUMNS = ["objective", "collection", "metric", "rung", "forecast", "lo", "hi", "coverage", "predictable",
                    "no_change", "actual", "covered"]  # fmt: skip


@one_sentence
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    given = _parser().parse_args(arguments)
    commands = {"study": _study, "plan": _plan, "forecast": _forecast, "zip": _zip, "verify": _verify}
    return commands[given.command](given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rankscale", description="Forecast how well a large reranker will rank.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (("study", "run a study; interrupted, it goes on where it was"),
                       ("plan", "say what a study would cost in hours, disk and memory"),
                       ("zip", "write what others need to check a finished study as one file")):  # fmt: skip
        commands.add_parser(name, help=what).add_argument("study", help="its name, or the path of its YAML or zip")
    verify = commands.add_parser("verify", help="check the seals of a study or of one sealed CSV; of a zip, refit it")
    verify.add_argument("study", help="its name, or the path of its YAML, of a sealed CSV or of a zip")
    verify.add_argument("--certificates", type=Path, help="a PEM file of time-stamp authorities that are trusted")
    forecast = commands.add_parser("forecast", help="forecast held-out rungs from measurements in a CSV")
    forecast.add_argument("csv", type=Path)
    forecast.add_argument("--held-out", nargs="+", required=True, metavar="RUNG")
    forecast.add_argument("--metrics", nargs="+", default=(), metavar="METRIC")
    forecast.add_argument("--checkpoints", type=int, default=1, help="of a run's end that are averaged")
    forecast.add_argument("--out", type=Path, help="a CSV for all columns at full precision")
    return parser


def _study(given: argparse.Namespace) -> int:
    from . import batch, kernels

    if not paths.IN_CHECKOUT:  # where setting up has not done it
        kernels.register()
    return batch.main(given.study)


def _plan(given: argparse.Namespace) -> int:
    from . import plan

    return plan.main(given.study)


def _forecast(given: argparse.Namespace) -> int:
    from rankscale_utils.analysis.ladder_forecast import forecast

    with warnings.catch_warnings():
        warnings.showwarning = lambda warning, *_: print(f"rankscale: {warning}", file=sys.stderr)
        table = forecast(given.csv, held_out=given.held_out, metrics=given.metrics, checkpoints=given.checkpoints)
    print(table.reindex(columns=FORECAST_COLUMNS).dropna(axis=1, how="all").to_string(index=False, float_format="%.4f"))
    if given.out:
        table.to_csv(given.out, index=False)
    return 0


def _zip(given: argparse.Namespace) -> int:
    from rankscale_utils.analysis.evidence import pack_study
    from rankscale_utils.study.loading import load_study

    print(pack_study(load_study(given.study)))
    return 0


def _verify(given: argparse.Namespace) -> int:
    file = Path(given.study)
    return _verify_zip(file, given.certificates) if file.suffix == ".zip" else _verify_seals(file)


def _verify_zip(archive: Path, certificates: Path | None) -> int:
    from rankscale_utils.analysis.verifying import verdict, verify_zip

    findings = []
    for finding in verify_zip(archive, certificates):
        findings.append(finding)
        print(f"{'ok   ' if finding.holds else 'WRONG'} {finding.sentence}", flush=True)
    print(verdict(findings))
    return int(not all(finding.holds for finding in findings))


def _verify_seals(file: Path) -> int:
    from rankscale_utils.analysis.sealing import SEAL, read_sealed, read_seals
    from rankscale_utils.study.loading import load_study

    if file.suffix == ".csv":
        sealed = {file.name: read_sealed(file)}
    else:
        folder = load_study(file).folder
        firsts = (paths.sealed_forecasts_file(folder), paths.sealed_annotations_file(folder))
        sealed = {seal.file.name: seal.forecasts for first in firsts for seal in read_seals(first)}
    if not sealed:
        raise StudyError(f"study {file} has no seal here: run `rankscale study {file}` first.")
    for name, forecasts in sealed.items():
        row = forecasts.iloc[0]
        known = "after its truth was there" if row["truth_existed"] else "before its truth was there"
        print(f"{name}: unchanged, {len(forecasts):,} rows sealed {row['sealed_at']}, {known}. SHA-256 {row[SEAL]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
