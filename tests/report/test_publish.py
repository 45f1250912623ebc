import os

import pytest
from PIL import Image

from rankscale_utils.report import publish
from rankscale_utils.study import paths


@pytest.fixture
def rendered(tiny_study, tmp_path, monkeypatch):
    """A study with a page, a picture that was published before, and a browser: what a shell script does."""
    (paths.site_folder() / "tiny").mkdir(parents=True)
    (paths.site_folder() / "tiny" / publish.PICTURE).write_bytes(b"before")
    tiny_study.reports.mkdir(parents=True)
    (tiny_study.reports / "index.html").write_text("<h1>Tiny</h1>")

    def browser(script):
        file = tmp_path / "bin" / "chromium"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}{os.pathsep}{os.environ['PATH']}")

    return browser


@pytest.mark.parametrize(
    ("script", "said"), [("exit 7", "exit status 7"), ("exec sleep 9", "timed out after 0.2 seconds")]
)
def test_a_browser_that_fails_or_hangs_leaves_the_former_picture(rendered, monkeypatch, capsys, script, said):
    rendered(script)
    monkeypatch.setattr(publish, "SECONDS_TO_DRAW", 0.2)
    assert publish.main("tiny") == 0
    told = capsys.readouterr()
    assert told.out == f"{paths.site_folder() / 'tiny'}\n"
    assert "no new picture of the first page: " in told.err
    assert said in told.err
    assert (paths.site_folder() / "tiny" / "index.html").read_text() == "<h1>Tiny</h1>"
    assert (paths.site_folder() / "tiny" / publish.PICTURE).read_bytes() == b"before"


def test_a_picture_that_was_drawn_takes_the_formers_place(rendered, tmp_path):
    drawn = tmp_path / "drawn.png"
    Image.effect_noise((60, 40), 90).convert("RGB").save(drawn)
    rendered(f'for option; do case "$option" in --screenshot=*) cp {drawn} "${{option#*=}}";; esac; done')
    assert publish.main("tiny") == 0
    picture = Image.open(paths.site_folder() / "tiny" / publish.PICTURE)
    assert (picture.size, picture.mode) == ((60, 40), "P")
    assert len(picture.getcolors()) <= publish.COLOURS


def test_what_is_no_picture_leaves_the_former_one(rendered, capsys):
    rendered('for option; do case "$option" in --screenshot=*) printf new > "${option#*=}";; esac; done')
    assert publish.main("tiny") == 0
    assert "no new picture of the first page: cannot identify image file" in capsys.readouterr().err
    assert (paths.site_folder() / "tiny" / publish.PICTURE).read_bytes() == b"before"


def test_a_site_that_cannot_be_written_is_one_sentence(rendered, capsys):
    rendered("exit 0")
    (paths.site_folder() / "tiny" / publish.PICTURE).unlink()
    (paths.site_folder() / "tiny").rmdir()
    paths.site_folder().rmdir()
    paths.site_folder().write_text("a file, where a folder should be")
    assert publish.main("tiny") == 2
    assert capsys.readouterr().err.startswith(f"rankscale: {paths.site_folder()}")
