import subprocess

import pytest
from pydantic import ValidationError
from snakemake_executor_plugin_slurm.validation import get_forbidden_slurm_options

from rankscale_utils.errors import StudyError
from rankscale_utils.pipeline import cluster
from rankscale_utils.pipeline.batch import main
from rankscale_utils.pipeline.cluster import Cluster, check_profile, failures, prefix, read_cluster
from rankscale_utils.study import paths

# What the plugin says of jobs that it submitted and that failed.
GRAPH = """
Job 3 has been submitted with SLURM jobid 7 (log: {logs}/rule_train/listwise-w8-s0/7.log).
Job 4 has been submitted with SLURM jobid 8 (log: {logs}/rule_evaluate/listwise-w4-s0/8.log).
Job 5 has been submitted with SLURM jobid 9 (log: {logs}/rule_speedup/9.log).
Job 6 has been submitted with SLURM jobid 10 (log: {logs}/rule_train/listwise-w4-s0/10.log).
    message: SLURM-job '7' failed: 'TIMEOUT'. For further error details see the cluster/cloud log
    message: SLURM-job '8' failed: 'FAILED'. For further error details see the cluster/cloud log
    message: SLURM-job '9' failed: 'NODE_FAIL'. For further error details see the cluster/cloud log
    message: SLURM-job '10' failed: 'FAILED'. For further error details see the cluster/cloud log
"""


def test_without_a_file_of_the_users_own_the_defaults_hold(tiny_study):
    assert read_cluster() == Cluster()
    cluster.cluster_file().write_text("partition: gpu\nlongest: 600\n")
    assert read_cluster() == Cluster(partition="gpu", longest=600)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("partitions: gpu", "partitions is not a field of cluster.yaml, did you mean partition?"),
        ("account: 1234", "account = 1234: must be text: write it in quotes."),
        ("gpus: 2", "gpus = 2: must be true or false."),
        (
            "gpu_model: h100-80gb",
            "gpu_model = 'h100-80gb': is no name of letters, digits, dots and underscores",
        ),
        ("options: --x 'y", 'options = "--x \'y": cannot be read as options (No closing quotation): correct it.'),
        ("options: --mail-type=FAIL --job-name=mine", "--job-name=mine is said of every job already"),
        ("options: -Jmine", "-Jmine is said of every job already"),
        ("time_factor: 0.5", "time_factor = 0.5: input should be greater than or equal to 1."),
        ("time_factor: 1e308", "time_factor = 1e+308: input should be less than or equal to 1000."),
        ("memory_factor: 1e308", "memory_factor = 1e+308: input should be less than or equal to 1000."),
        ("rate: 1e-300", "rate = '1e-300': input should be greater than or equal to 1000000."),
        ("ask: 1000", "ask = 1000: input should be less than or equal to 180."),
        ("{longest: 15, warning: 600}", "warning = 600: is more than half of longest = 15 minutes: lower it."),
        ("cpus: 2\ncpus: 4", "cluster.yaml: cpus stands on lines 1 and 2: remove one of them."),
        ("account: 2024-13-01", "cluster.yaml, line 1: this is no timestamp"),
        (3000 * "[", "cluster.yaml nests lists or fields too deeply to be read"),
        ("- gpu", "cluster.yaml holds no fields: write `partition: gpu` and the like, a line each."),
        ("a: [", "cluster.yaml is not YAML"),
    ],
)
def test_mistakes_in_it_are_one_sentence_before_any_work(tiny_study, capsys, monkeypatch, text, said):
    monkeypatch.setattr(cluster, "check_profile", lambda name: None)
    cluster.cluster_file().write_text(text)
    assert main("tiny", "slurm") == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not tiny_study.folder.exists()


def test_options_that_the_plugin_refuses_are_refused_before_it_does():
    patterns = "|".join(get_forbidden_slurm_options()).replace(r"[=\s]", "=1").replace(r"\s?", "1").replace(r"\s", " 1")
    for option in patterns.split("|"):
        with pytest.raises(ValidationError, match="is said of every job already"):
            Cluster(options=option)


def test_a_profile_that_is_not_there_is_refused(tiny_study, capsys, monkeypatch):
    assert main("tiny", "slrum") == 2
    assert "ON = slrum: there is no profiles/slrum/config.yaml: use slurm, or write one." in capsys.readouterr().err
    monkeypatch.setattr(cluster.shutil, "which", lambda tool: None)
    with pytest.raises(StudyError, match="no sbatch, squeue, scontrol here: run it on a login node"):
        check_profile("slurm")


def test_snakemake_is_told_what_the_user_asks_for(tiny_study, monkeypatch):
    said = subprocess.CompletedProcess([], 0, stdout="AccountingStorageType = accounting_storage/slurmdbd")
    monkeypatch.setattr(cluster.subprocess, "run", lambda *_, **__: said)
    asked = Cluster(account="lab", partition="gpu", constraint="a100|h100", options="--mail-type=FAIL", warning=300)
    given = cluster.options(tiny_study, "slurm", asked)
    assert given[given.index("--default-resources") + 1 :] == [
        "slurm_account='lab'",
        "slurm_partition='gpu'",
        "constraint='a100|h100'",
        "slurm_extra='--signal=URG@300 --open-mode=append --mail-type=FAIL'",
        "nodes=1",
    ]
    assert "--slurm-status-command" not in given
    said.stdout = "AccountingStorageType = (null)"
    given = cluster.options(tiny_study, "slurm", asked)
    assert given[given.index("--slurm-status-command") + 1] == "squeue"


def test_studies_of_one_name_in_two_places_do_not_take_each_others_jobs(tiny_study, monkeypatch, tmp_path):
    here = prefix(tiny_study)
    monkeypatch.setattr(paths, "ROOT", tmp_path / "elsewhere")
    assert prefix(tiny_study) != here


def test_what_slurm_ended_is_a_sentence_and_what_a_stage_told_is_not_told_twice(tiny_study):
    logs = cluster.job_logs(tiny_study.folder)
    told = "tiny: evaluate run=listwise-w4-s0 failed: no room"
    assert failures(tiny_study, GRAPH.format(logs=logs), [told]) == [
        told,
        "tiny: train run=listwise-w8-s0 reached its time limit: raise time_factor, or longest, in cluster.yaml "
        f"(Slurm's job 7; its log is {logs}/rule_train/listwise-w8-s0/7.log)",
        "tiny: speedup lost its node, and Slurm did not queue it again "
        f"(Slurm's job 9; its log is {logs}/rule_speedup/9.log)",
        f"tiny: train run=listwise-w4-s0 did not begin: Slurm's job 10 is FAILED (its log is "
        f"{logs}/rule_train/listwise-w4-s0/10.log)",
    ]


def test_results_that_are_not_to_be_seen_are_a_sentence(tiny_study):
    graph = (
        "Waiting at most 120 seconds for missing files:\n/runs/a/depths.parquet (missing locally)\n"
        'MissingOutputException in rule evaluate in file "/here/Snakefile", line 129:\n'
        "Job 12  completed successfully, but some output files are missing. Missing files after 120 seconds.\n"
        "/runs/a/depths.parquet (missing locally, parent dir contents: .lock.1)\n"
    )
    [said] = failures(tiny_study, graph, [])
    assert said.startswith("tiny: evaluate is over for Slurm, but /runs/a/depths.parquet is not to be seen here: raise")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("OUT_OF_MEMORY", ""),
        ("FAILED", "slurmstepd: error: Detected 1 oom_kill event in StepId=8.0. Some of the step tasks have been OOM"),
        ("FAILED", "slurmstepd-n1: error: StepId=8.0 exceeded memory limit (223604736 > 209715200), being killed"),
    ],
)
def test_too_little_memory_is_one_sentence_with_the_remedy_whatever_the_stage_met_with(tiny_study, state, said):
    logs = cluster.job_logs(tiny_study.folder)
    log = logs / "rule_evaluate" / "listwise-w4-s0" / "8.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"{said}\n")
    graph = GRAPH.format(logs=logs).replace("'8' failed: 'FAILED'", f"'8' failed: '{state}'")
    told = failures(tiny_study, graph, ["tiny: evaluate run=listwise-w4-s0 failed: BrokenPipeError"])
    assert [sentence for sentence in told if "evaluate" in sentence] == [
        "tiny: evaluate run=listwise-w4-s0 ran out of the memory that it asked for: raise memory_factor in "
        f"cluster.yaml (Slurm's job 8; its log is {log})"
    ]
