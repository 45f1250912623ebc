"""Publish a study's report: `python -m rankscale_utils.report.publish STUDY` (what `make publish` runs).

What a run renders lies in `reports/STUDY`, which git ignores; what the project shows lies in `reports/site/STUDY`.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from rankscale_utils.errors import StudyError, one_sentence
from rankscale_utils.machine.files import whole_folder
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.study.study import Study

PICTURE = "index.png"
COLOURS = 128  # of the picture, so that it takes a third of the bytes
SECONDS_TO_DRAW = 120.0
WINDOW = "1200,1500"  # pixels of the first page's picture


def publish(study: Study) -> Path:
    """Copy a study's rendered report to where the project shows it, a picture of its first page beside; return it.

    The picture needs Chromium; without it, or where it fails, which is said, the one that was published before stays.

    Raises:
        StudyError: the study has not been rendered.
    """
    if not paths.index_file(study.reports).exists():
        raise StudyError(f"{study.reports} has no report: run `make study STUDY={study.name}` first.")
    site = paths.site_folder() / study.name
    with whole_folder(site) as temporary:
        shutil.copytree(study.reports, temporary, dirs_exist_ok=True)
        if not _photograph(temporary / "index.html", temporary / PICTURE) and (site / PICTURE).exists():
            shutil.copy2(site / PICTURE, temporary)
    return site


def _photograph(page: Path, picture: Path) -> bool:
    """Draw a page's first screen with Chromium; return whether it did."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        return False
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        options += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        options += [f"--window-size={WINDOW}", f"--screenshot={picture}", page.resolve().as_uri()]
        try:
            subprocess.run([browser, *options], check=True, capture_output=True, timeout=SECONDS_TO_DRAW)
            Image.open(picture).quantize(COLOURS).save(picture, optimize=True)
        except (subprocess.SubprocessError, OSError) as error:
            picture.unlink(missing_ok=True)
            print(
                f"rankscale: no new picture of the first page: {' '.join(str(error).split())[-200:]}", file=sys.stderr
            )
    return picture.exists()


@one_sentence
def main(name: str) -> int:
    """Publish the study of that name or path, and say where."""
    print(publish(load_study(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
