"""One page for all published studies: `python -m rankscale_utils.report.site` (what `make site` runs).

It holds each study's own answers, as its first page gives them, and a picture; it stands alone, ready to be served.
"""

import base64
import io
import re
import sys
from html import unescape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from rankscale_utils.errors import StudyError, one_sentence
from rankscale_utils.machine.files import whole_file
from rankscale_utils.study import paths

from .page import TEMPLATE
from .publish import PICTURE
from .render import filled

THUMBNAIL = 480  # pixels


class Card(NamedTuple):
    """A published study: its title, banner, answers (question and answer), truth, date, link, and picture."""

    name: str
    title: str
    banner: str
    answers: list[tuple[str, str]]
    truth: str
    date: str
    link: str
    picture: str


def write_site() -> Path:
    """Write the page that leads to every published study, and return it.

    Raises:
        StudyError: no study has been published.
    """
    pages = sorted(paths.site_folder().glob("*/index.html"))
    if not pages:
        raise StudyError(f"{paths.site_folder()} has no report: run `make publish STUDY=name` first.")
    site = paths.site_index()
    css = (TEMPLATE / "style.css").read_text(encoding="utf-8")
    with whole_file(site) as temporary:
        temporary.write_text(filled("site.html.j2", {"cards": [_card(page) for page in pages], "css": css}), "utf-8")
    return site


def _card(page: Path) -> Card:
    html = page.read_text(encoding="utf-8")
    sealed = re.search(r"sealed</th><td>(\d{4}-\d\d-\d\d)", html)
    tiles = re.findall(r'<section class="tile.*?<h2>(.*?)</h2><p class="said">(.*?)</p>', html, flags=re.DOTALL)
    picture = page.with_name(PICTURE)
    return Card(
        page.parent.name,
        _text(re.search(r"<h1>(.*?)</h1>", html)),
        _text(re.search(r'<p class="banner">(.*?)</p>', html, flags=re.DOTALL)),
        [(_plain(question), _plain(answer)) for question, answer in tiles],
        _text(re.search(r"<p>(Measured since:.*?)</p>", html)),
        sealed[1] if sealed else "",
        f"{page.parent.name}/{page.name}",
        _thumbnail(picture) if picture.exists() else "",
    )


def _thumbnail(picture: Path) -> str:
    """Return the upper part of a first page's picture, as wide as a card shows it on a fine screen."""
    image, out = Image.open(picture).convert("RGB"), io.BytesIO()
    image = image.crop((0, 0, image.width, min(image.width, image.height)))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(out, "WEBP", quality=70)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _text(match: re.Match | None) -> str:
    return _plain(match[1]) if match else ""


def _plain(html: str) -> str:
    return unescape(re.sub("<[^>]+>", "", html)).strip()


@one_sentence
def main() -> int:
    """Write the site's page, and say where."""
    print(write_site())
    return 0


if __name__ == "__main__":
    sys.exit(main())
