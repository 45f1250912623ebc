"""Progress of long cells: on the terminal while a batch runs, and never in the rendered page."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

EVERY_SECONDS = 3.0


class Progress:
    """Say every few seconds how far a run is.

    In batch the lines go to the file that RANKSCALE_PROGRESS names, which `make study` shows on the terminal; in
    JupyterLab to the notebook, below the cell that runs.
    """

    def __init__(self, name: str, total: int, unit: str) -> None:
        """Start the clock. total: how many `unit` (pairs, queries) there are to do in all."""
        self.name, self.total, self.unit = name, total, unit
        self.started = self.said = time.monotonic()
        self.done = self.skipped = 0

    def skip(self, count: int) -> None:
        """Count work that was done before this process began."""
        self.done = self.skipped = count

    def rate(self) -> float:
        """Return the units done a second since the clock started."""
        return (self.done - self.skipped) / max(time.monotonic() - self.started, 1e-9)

    def advance(self, count: int, note: str = "") -> None:
        """Count work as done, and say how far the run is when it is time to say something."""
        self.done += count
        now = time.monotonic()
        if now - self.said < EVERY_SECONDS and self.done < self.total:
            return
        self.said = now
        left = f"{(self.total - self.done) / self.rate():,.0f} s left" if self.done < self.total else ""
        rate = f"{self.rate():,.0f}" if self.rate() >= 10 else f"{self.rate():.2g}"
        parts = [f"{self.done:,}/{self.total:,} {self.unit}", note, f"{rate} {self.unit}/s", left]
        say(f"{self.name:<24} " + "  ".join(part for part in parts if part))


def say(line: str) -> None:
    """Write one line where people watch."""
    target = os.environ.get("RANKSCALE_PROGRESS")
    if target:
        with suppress(OSError), open(Path(target), "a", encoding="utf-8") as out:  # a full disk is told by who fills it
            out.write(line + "\n")
    else:
        print(line, file=sys.stdout if in_notebook() else sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether a notebook watches, where standard error would stand on red."""
    shell = sys.modules.get("IPython")
    return shell is not None and shell.get_ipython() is not None
