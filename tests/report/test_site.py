import base64
import io
import re

import pytest
from PIL import Image

from rankscale_utils.errors import StudyError
from rankscale_utils.report import site
from rankscale_utils.study import paths

PAGE = """<h1>A &amp; B</h1><p class="banner">No <a class="term" href="#x">model</a> here.</p>
<section class="tile good"><h2>What will w48 score?</h2><p class="said">0.3223</p>
<p>Measured since: 0.3162, inside the <a class="term">interval</a>.</p></section>
<table><tr><th>sealed</th><td>2026-11-28T16:06:21+00:00, SHA-256 abc</td></tr></table>"""


def test_every_published_study_has_its_answers_and_a_link(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(StudyError, match="make publish STUDY=name"):
        site.write_site()
    folder = paths.site_folder() / "demo"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    Image.new("RGB", (1200, 1500), "red").save(folder / "index.png")
    page = site.write_site()
    html = page.read_text()
    assert page == tmp_path / "reports" / "site" / "index.html"
    assert '<a href="demo/index.html">A &amp; B</a>' in html
    assert "<p>No model here.</p>" in html
    assert "<dt>What will w48 score?</dt><dd>0.3223 <small>Measured since: 0.3162, inside" in html
    assert "study demo, sealed 2026-11-28" in html
    picture = re.search('src="data:image/webp;base64,([^"]*)"', html)[1]
    assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (480, 480)
    assert (page.parent / "demo" / "index.html").exists()
