"""The code and the libraries that results were made with."""

import platform
import subprocess
from importlib.metadata import distributions, version
from typing import Any

from rankscale_utils.study import paths


def environment() -> dict[str, Any]:
    """Return versions of rankscale (with the commit, in a checkout), of Python, of the system and of every package."""
    packages = {found.metadata["Name"]: found.version for found in distributions()}
    return {
        "rankscale": version("rankscale"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def commit() -> str:
    """Return the commit of the checkout, and whether files differ from it; empty where there is no git or checkout."""
    if not paths.IN_CHECKOUT:
        return ""
    head, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return f"{head}{' with changes' if changed else ''}" if head else ""


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(paths.CHECKOUT), *arguments], capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
