import subprocess
import sys


def test_old_results_that_a_failed_job_left_are_made_again(tmp_path):
    """Snakemake alone would note that what it put back was made by the new settings."""
    made = tmp_path / "made"
    (tmp_path / "Snakefile").write_text(
        'rule one:\n    output: update("made")\n    params: config["number"]\n'
        "    shell: \"test ! -e fails && echo '{params}' > {output}\"\n"
    )
    options = ["--directory", str(tmp_path), "--snakefile", str(tmp_path / "Snakefile"), "--cores", "1"]
    graph = [sys.executable, "-m", "rankscale_utils.pipeline.graph", *options, "--rerun-incomplete", "--config"]

    def run(number):
        return subprocess.run([*graph, f"number={number}"], capture_output=True, text=True)

    assert run(1).returncode == 0
    (tmp_path / "fails").touch()
    failed = run(2)
    assert failed.returncode, failed.stderr
    assert made.read_text() == "1\n"  # as it stood
    (tmp_path / "fails").unlink()
    for _ in range(2):
        assert run(2).returncode == 0
        assert made.read_text() == "2\n"
    assert "Nothing to be done" in run(2).stderr
