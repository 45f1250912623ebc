"""Random inputs, damage and kills until the time is over or one finds something: `make fuzz MINUTES=60`."""

import os
import secrets
import subprocess
import sys
import time

from tests.faults.conftest import FUZZ


def main(minutes: float) -> int:
    """Return pytest's status."""
    until, status = time.monotonic() + 60 * minutes, 0
    while not status and time.monotonic() < until:
        seed = str(secrets.randbelow(2**31))
        print(f"seed {seed}: {(until - time.monotonic()) / 60:.0f} minutes left", flush=True)
        command = [sys.executable, "-m", "pytest", "tests/faults", "-k", "random", "-x", "-q"]
        status = subprocess.call([*command, f"--hypothesis-seed={seed}"], env=os.environ | {FUZZ: seed})
    return status


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
