"""A real browser: Chromium, where it and playwright are there."""

import shutil
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """Return a headless Chromium, as playwright has it."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright here: pip install -r tests/requirements.txt"
    )
    if not (browser := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no chromium here")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()
