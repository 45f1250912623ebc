"""Inputs that failed somewhere once, each with the right value that its case.md names.

They lie beside the repository, or where RANKSCALE_CASES says.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from rankscale_utils import forecast
from rankscale_utils.collections import open_collection
from rankscale_utils.collections.pair_reader import PairReader
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.evaluate import evaluate_run
from rankscale_utils.evaluation.metrics import open_test, reference_values
from rankscale_utils.machine.files import RESULTS
from rankscale_utils.measurements.reading import read_measurements, study_measurements
from rankscale_utils.pipeline.batch import check
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.pipeline.warm import COMMANDS, RENDER, serving
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study
from rankscale_utils.training.run import train
from tests.conftest import REPOSITORY, use_root

CPU = torch.device("cpu")
RENDERS = [RENDER] if sys.platform == "linux" else [sys.executable, "-m", COMMANDS[RENDER]]  # cold elsewhere
CASES = Path(os.environ.get("RANKSCALE_CASES", REPOSITORY.parent / "shared" / "cases"))
pytestmark = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"no cases at {CASES}; set RANKSCALE_CASES to the folder that holds them"
)


@pytest.fixture(autouse=True)
def own_root(tmp_path, monkeypatch):
    """Let studies live in a root of their own."""
    use_root(monkeypatch, tmp_path)


def case(path):
    """Return a file of the cases by the begin of its folder's name: 01/clean.yaml."""
    number, name = path.split("/")
    return next(CASES.glob(f"{number}-*")) / name


def study_of(path, **changes):
    """Return a case's study, some of its fields changed."""
    if not changes:
        return load_study(case(path))
    source = case(path)
    fields = yaml.safe_load(source.read_text(encoding="utf-8")) | changes
    changed = Path(os.environ["RANKSCALE_ROOT"]) / "params" / source.name
    for file in source.parent.iterdir():
        if file.is_file():
            (changed.parent / file.name).symlink_to(file)
    changed.unlink()
    changed.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return load_study(changed)


def refused(path):
    """Return the sentence by which a case's study or its measurements are refused."""
    with pytest.raises(StudyError) as error:
        study_measurements(load_study(case(path)), fitted_only=False)
    assert "\n" not in str(error.value)
    return str(error.value)


def run(path, **environment):
    """Run a case's study by `make study`'s command, from its YAML to its report; return its tables."""
    given = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, "-m", "rankscale_utils.pipeline.batch", str(case(path))]
    done = subprocess.run(command, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return reported(load_study(case(path)))


def reported(study):
    """Return the tables of a study that has its report."""
    assert (study.reports / "index.html").is_file()
    return study.results()


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """The environment in which the notebooks of all cases start from one warm server, as those of a study do."""
    root = tmp_path_factory.mktemp("warm")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = os.environ | {"RANKSCALE_ROOT": str(root), RESULTS: "write", "PATH": path, "OMP_NUM_THREADS": "1"}
    with serving(root / "log", given, trains=False) as environment:
        yield environment


@pytest.fixture
def run_stages(warm, monkeypatch):
    """Return what runs the graph's commands of a case's study, one after the other and without the graph."""
    monkeypatch.setattr(paths, "ROOT", Path(warm["RANKSCALE_ROOT"]))

    def ran(path):
        study = load_study(case(path))
        check(study)
        study.folder.mkdir(parents=True)
        commands = [
            ["papermill", REPOSITORY / "notebooks" / f"{name}.ipynb", paths.notebook_file(study.folder, name),
             *("-k", "rankscale-cpu", "--engine", "rankscale", "--no-progress-bar", "-p", "study", study.source)]
            for name in ("3_fit", "4_forecast", "5_allocate")
        ]  # fmt: skip
        for command in [*commands, [*RENDERS, study.source]]:
            done = subprocess.run(command, env=warm, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return reported(study)

    return ran


def first_stage(collection, study, metric):
    return reference_values(open_test(study, collection)).loc[metric, "first_stage"]


@pytest.mark.parametrize("name", ["all_space", "header_space", "label_space"])
def test_01_blanks_around_names_and_labels(name):
    clean = read_measurements(case("01/clean.csv"))
    pd.testing.assert_frame_equal(read_measurements(case(f"01/{name}.csv"))[clean.columns], clean)


def test_06_a_rung_whose_every_run_crashed():
    assert "2 rungs are left to fit, as every row of" in refused("06/marked.yaml")
    assert "held_out.rungs ['400m']: every row of them is excluded" in refused("06/held_out_crashed.yaml")
    assert "nan.csv, line 16: value" in refused("06/nan.yaml")


@pytest.mark.parametrize(("name", "test", "empty"), [("titled", "covid", 0), ("beir", "fiqa", 1)])
def test_09_documents_without_a_text(name, test, empty):
    collection = open_collection(study_of(f"09/{name}.yaml"))
    assert collection.manifest["tests"][test]["empty_documents"] == empty
    assert collection.manifest["tests"][test]["test_queries"] > 0


@pytest.mark.parametrize(
    "file", ["triplets.jsonl", "numbered.jsonl", "numbered.parquet", "numbered.tsv", "negatives.jsonl",
     "flag.jsonl", "tevatron.jsonl"]
)  # fmt: skip
def test_13_negatives_under_other_names(file):
    pairs = list(PairReader(case(f"13/{file}")))
    assert pairs
    assert all(pair.negatives for pair in pairs)
    if file.startswith("numbered"):
        assert pairs == list(PairReader(case("13/numbered.tsv")))
        assert {len(pair.negatives) for pair in pairs} == {3}


def test_14_a_field_that_stands_twice():
    assert refused("14/twice.yaml") == "twice.yaml: held_out stands on lines 3 and 6: remove one of them."
    assert refused("14/nested.yaml") == "nested.yaml: level stands on lines 7 and 9: remove one of them."
    assert load_study(case("14/once.yaml")).held_out.rungs == ("400m",)


def test_15_other_encodings():
    assert "cp1252.yaml is no UTF-8: on line 1" in refused("15/cp1252.yaml")
    assert "utf16.yaml is UTF-16" in refused("15/utf16.yaml")
    titles = {load_study(case(f"15/{name}.yaml")).title for name in ("utf8", "utf8_bom")}
    assert titles == {"Größe – Übersicht"}


def test_15_a_locale_that_is_not_utf8_and_18_no_home_at_all():
    results = run("15/utf8.yaml", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", HOME=None)
    assert len(results["forecasts"])
    page = (Path(os.environ["RANKSCALE_ROOT"]) / "reports" / "utf8" / "index.html").read_text(encoding="utf-8")
    assert "Größe – Übersicht" in page


def test_16_a_long_folder_for_temporary_files_and_18_no_home(tmp_path):
    folder = tmp_path / ("x" * (95 - len(str(tmp_path)) - 1))
    folder.mkdir()
    assert len(str(folder)) >= 95
    forecasts = run("16/plain.yaml", TMPDIR=str(folder), HOME="/proc/nowhere")["forecasts"]
    new = forecasts[forecasts["kind"] == "new_run"].iloc[-1]
    assert new["lo"] < new["actual"] < new["hi"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("recall_at_depth", "R@100 is its ceiling, 0.6666, in every run: reranking the candidates cannot change it"),
        ("one_perfect", "is at its limit, 1, in 1 of"),
    ],
)
def test_23_a_metric_at_its_limit_is_left_out_with_its_reason(run_stages, name, reason):
    results = run_stages(f"23/{name}.yaml")
    assert results["left_out"]["reason"].str.contains(reason, regex=False).any(), results["left_out"]["reason"]
    assert results["forecasts"]["metric"].unique().tolist() == ["nDCG@10"]


@pytest.mark.parametrize(("name", "hard"), [("beir", 4), ("st", 4), ("triples", 1)])
def test_33_the_usual_layouts(name, hard):
    training = {"exposures": [960, 1920], "groups": {"hard": hard}}  # a triple has one negative
    collection = open_collection(study_of(f"33/{name}.yaml", training=training))
    assert collection.manifest["tests"]["own"]["test_queries"] > 0
    assert collection.manifest["items"] > 0


def test_34_chinese():
    said = open_collection(study_of("34/zh.yaml")).manifest
    assert any("share no word with any document" in note for note in said["notes"])
    read = study_of("34/zh.yaml", first_stage={"tokenizer": "unicode", "language": "zh"})
    assert first_stage(open_collection(read), read, "nDCG@10") > 0.99


def test_36_a_query_is_not_its_own_candidate():
    study = study_of("36/own.yaml")
    collection = open_collection(study)
    assert first_stage(collection, study, "RR@10") == 1
    assert first_stage(collection, study, "nDCG@10") == 1


def test_37_the_same_question_in_other_letters():
    manifest = open_collection(study_of("37/case.yaml")).manifest
    (test,) = manifest["tests"].values()
    assert test["queries_also_trained_on"] == 0
    assert manifest["queries_spelled_otherwise"] > 0


@pytest.mark.parametrize(
    ("path", "truth"),
    [
        ("02/bpb_low.yaml", 0.4761),
        ("22/equal.yaml", 0.3996),
        ("24/two_metrics.yaml", None),
        ("26/one_row_a_rung.yaml", None),
        ("26/late.yaml", None),
    ],
)
def test_what_can_be_forecast_is_and_the_report_is_rendered(run_stages, path, truth):
    forecasts = run_stages(path)["forecasts"]
    new = forecasts[forecasts["kind"] == "new_run"].iloc[-1]
    assert abs(new["forecast"] - new["actual"]) < 0.03
    assert truth is None or new["actual"] == pytest.approx(truth, abs=2e-3)


@pytest.mark.parametrize(("name", "clear"), [("bpb", "bpb_loss"), ("nll", None)])
def test_02_entropies_by_other_names_fall(name, clear):
    made = forecast(case(f"02/{name}.csv"), load_study(case(f"02/{name}.yaml")).held_out.rungs, draws=100)
    assert (made["relative_error"].abs() < 0.02).all()
    if clear:
        other = forecast(case(f"02/{clear}.csv"), load_study(case(f"02/{clear}.yaml")).held_out.rungs, draws=100)
        assert made["forecast"].to_numpy() == pytest.approx(other["forecast"].to_numpy())


def test_23_the_candidates_own_recall_is_left_out_before_any_training(capsys):
    prepare(load_study(case("23/depth10.yaml")))
    said = capsys.readouterr().err
    assert "will be left out: R@10 on docstrings/test: R@10 is its ceiling, 0.6, in every run" in said
    assert "nDCG@10 on" not in said


def test_25_long_queries_score_in_sentence_transformers_as_they_were_measured(tmp_path, monkeypatch):
    library = pytest.importorskip("sentence_transformers")
    for module in ("transformers.dynamic_module_utils.HF_MODULES_CACHE", "transformers.utils.hub.HF_MODULES_CACHE"):
        monkeypatch.setattr(module, str(tmp_path / "modules"), raising=False)
    study = load_study(case("25/long.yaml"))
    prepare(study)
    collection, run = open_collection(study), study.fitted_runs[0]
    train(study, run, collection, CPU)
    evaluate_run(study, run, collection, CPU)
    folder = paths.checkpoint_file(study.run_folder(run), 960)
    (file,) = folder.parent.glob(f"{folder.name}.*run.gz")
    names = ["query", "q0", "document", "rank", "score", "tag"]
    ranked = pd.read_csv(file, sep=r"\s+", header=None, names=names, dtype=str)
    queries = collection.queries().drop_duplicates("query_id").set_index("query_id")["text"]
    documents = collection.documents().drop_duplicates("document_id").set_index("document_id")["text"]
    pairs = list(zip(queries.loc[ranked["query"]], documents.loc[ranked["document"]], strict=True))
    assert max(len(query.split()) for query, _ in pairs) > study.text.pair_tokens  # longer than a pair may be
    theirs = library.CrossEncoder(str(folder), device="cpu", trust_remote_code=True).predict(pairs)
    np.testing.assert_allclose(theirs, ranked["score"].astype(float), atol=1e-5)


def test_04_what_has_no_truth_is_left_out_and_named(run_stages):
    results = run_stages("04/uneven.yaml")
    assert len(results["forecasts"])
    assert results["left_out"]["reason"].str.contains("nothing to forecast").any()


def test_31_a_plan_of_own_files(capsys):
    from rankscale_utils.pipeline.plan import main

    assert main(str(case("31/plan.yaml"))) == 0
    assert "hours" in capsys.readouterr().out


def test_29_flops_of_shared_layers():
    import torch
    from transformers import AutoModel

    from rankscale_utils.models.counts import counted_flops, encoder_flops

    for folder in sorted(case("29/models").glob("albert/w*")):
        encoder = AutoModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False).eval()
        with torch.no_grad():
            counted = counted_flops(encoder, 1, 48)
        assert float(encoder_flops(encoder).forward(np.array([48]))[0]) == pytest.approx(counted, rel=0.01), folder.name


@pytest.mark.parametrize(("name", "said"), [("reranker", ""), ("with_pooler", ""), ("mt5", "mt5")])
def test_32_published_rungs_are_read_or_refused_in_one_sentence(name, said):
    from rankscale_utils.models.checks import check_pretrained

    study = load_study(case(f"32/{name}.yaml"))
    if not said:
        check_pretrained(study)
        return
    with pytest.raises(StudyError, match=said):
        check_pretrained(study)
