import subprocess
import sys

import pytest


@pytest.fixture
def graph(tmp_path):
    """Return what runs a graph of these rules with a number as its setting."""

    def run(rules, number):
        (tmp_path / "Snakefile").write_text(rules)
        options = ["--directory", str(tmp_path), "--snakefile", str(tmp_path / "Snakefile"), "--cores", "1"]
        command = [sys.executable, "-m", "rankscale_utils.pipeline.graph", *options, "--rerun-incomplete", "--config"]
        return subprocess.run([*command, f"number={number}"], capture_output=True, text=True)

    return run


def test_old_results_that_a_failed_job_left_are_made_again(tmp_path, graph):
    """Snakemake alone would note that what it put back was made by the new settings."""
    made = tmp_path / "made"
    rules = (
        'rule one:\n    output: update("made")\n    params: config["number"]\n'
        "    shell: \"test ! -e fails && echo '{params}' > {output}\"\n"
    )
    assert graph(rules, 1).returncode == 0
    (tmp_path / "fails").touch()
    failed = graph(rules, 2)
    assert failed.returncode, failed.stderr
    assert made.read_text() == "1\n"  # as it stood
    (tmp_path / "fails").unlink()
    assert graph(rules, 2).returncode == 0
    assert made.read_text() == "2\n"
    assert "Nothing to be done" in graph(rules, 2).stderr


def test_what_waits_for_an_ancient_result_is_made_again_when_its_own_settings_change(tmp_path, graph):
    """As a held-out run is, which waits for its seal; Snakemake alone would leave it as it stands."""
    rules = (
        'rule all:\n    input: "seal", "truth"\n'
        'rule fit:\n    output: "seal"\n    params: config["number"]\n    shell: "echo {params} > {output}"\n'
        'rule train:\n    input: ancient("seal")\n    output: "truth"\n    params: min(2, config["number"])\n'
        '    shell: "echo {params} > {output}"\n'
    )
    for number in (1, 2):
        assert graph(rules, number).returncode == 0
        assert (tmp_path / "truth").read_text() == f"{number}\n"
    said = graph(rules, 3).stderr
    assert (tmp_path / "seal").read_text() == "3\n"
    assert "rule train" not in said  # whose seal alone is new
