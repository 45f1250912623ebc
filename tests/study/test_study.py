import pytest
import yaml

from rankscale_utils.errors import StudyError
from rankscale_utils.study import paths
from rankscale_utils.study.ladder import Rung
from rankscale_utils.study.loading import find_study, load_study
from rankscale_utils.study.study import run_seed

BRINGS = {"measurements": "ladder.csv", "held_out": {"rungs": ["1b"]}}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write fields as a YAML file and return its path."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def write(fields, name="some.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(fields if isinstance(fields, str) else yaml.safe_dump(fields))
        return path

    return write


def refusal(path):
    with pytest.raises(StudyError) as caught:
        load_study(path)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def test_every_mistake_is_named_at_once(new_study):
    with pytest.raises(StudyError) as caught:
        new_study(
            text={"vocabulary": 10},
            evaluation={"depth": 5, "querys": 40},
            first_stage={"b": 2},
            architecture="gpt",
            held_out=None,
        )
    message = str(caught.value)
    assert message.startswith("tiny.yaml: 6 mistakes: (1) ")
    assert "\n" not in message
    for field, value in [("text.vocabulary", 10), ("evaluation.depth", 5), ("first_stage.b", 2)]:
        assert f"{field} = {value}: input should be " in message
    assert "architecture = 'gpt': input should be 'bert' or 'modernbert'" in message
    assert "evaluation.querys is not a field of a study, did you mean queries?" in message
    assert "held_out is missing: add it." in message


@pytest.mark.parametrize(
    ("field", "near"),
    [("traning", "training"), ("heldout", "held_out"), ("objective", "objectives"), ("architectur", "architecture")],
)
def test_an_unknown_field_is_refused_with_the_nearest_known_one(written, field, near):
    message = refusal(written(BRINGS | {field: {}}))
    assert f"{field} is not a field of a study, did you mean {near}?" in message


def test_a_field_like_no_other_is_refused_without_a_suggestion(written):
    assert refusal(written(BRINGS | {"zzzzzz": 1})) == "some.yaml: zzzzzz is not a field of a study."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"held_out": {"rungs": ["w99"]}},
            r"held_out = .*: \['w99'\] are not on the ladder \['w4', .*name rungs of it",
        ),
        ({"held_out": {"rungs": ["w8", "w12"]}}, r"three fitted rungs or more: lengthen the ladder or hold out fewer"),
        (
            {"text": {"pair_tokens": 20, "query_tokens": 20}},
            r"text\.pair_tokens = 20: leaves no room .* raise it or lower",
        ),
        ({"measurements": "x.csv"}, r"measurements and ladder, objectives or training exclude each other: drop one"),
        ({"training": None}, r"training missing: write them, or point `measurements` at a CSV"),
        ({"training": {"exposures": [9600, 4800]}}, r"exposures = \[9600, 4800\]: must rise .*: reorder them or raise"),
        (
            {"training": {"exposures": [9600, 9600]}},
            r"exposures = \[9600, 9600\]: 9600 stands twice: remove",
        ),
        ({"training": {"exposures": [10]}}, r"exposures = \[10\]: must .* start at one step or more \(96 pairs\)"),
        ({"ladder": {"w9": {"hidden": 9, "heads": 2}}}, r"hidden 9 is not a multiple of heads 2: change one of them"),
        ({"ladder": {"w0": {"hidden": 0}}}, r"ladder\.w0\.hidden = 0: input should be greater than 0"),
        ({"objectives": {"listwize": {"learning_rate": {"base": 0.001}}}}, r"listwize.* 'listwise'"),
        ({"objectives": {"listwise": {"learning_rate": {"base": "fast"}}}}, r"learning_rate\.base = 'fast': .*number"),
        ({"objectives": {"listwise": {"seeds": [], "learning_rate": {"base": 0.001}}}}, r"seeds = \[\]: .*at least 1"),
        ({"annotations": {"counts": [60, 120]}}, r"annotations\.counts = \[60, 120\]: .* at least 4 items .* not 2"),
    ],
)
def test_a_study_that_cannot_be_is_refused_with_the_remedy(new_study, changes, sentence):
    with pytest.raises(StudyError, match=sentence) as caught:
        new_study(**changes)
    assert "\n" not in str(caught.value)


FEW = {"hard": 1, "random": 1, "hard_depth": 10, "queries_per_step": 4}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"training": {"exposures": [2400], "groups": FEW | {"hard": 11}}},
            r"groups\.hard_depth = 10: so few ranks do not hold hard = 11 negatives: raise it or lower hard",
        ),
        (
            {"training": {"exposures": [2400], "groups": FEW | {"hard": 0, "random": 0}}},
            r"listwise has no negatives with training\.groups\.hard = random = 0: raise one of them",
        ),
        (
            {"training": {"exposures": [240, 241], "groups": FEW}},
            r"exposures = \[240, 241\]: must rise by whole steps .*12 pairs.* raise those",
        ),
        (
            {"objectives": {"listwise": {"seeds": [0, 0], "learning_rate": {"base": 0.001}}}},
            r"objectives\.listwise\.seeds = \[0, 0\]: 0 stands twice: remove one of them",
        ),
        (
            {"ladder": {"a/b": {"hidden": 4}, "b c": {"hidden": 6}, "../d": {"hidden": 8}, "w12": {"hidden": 12}}},
            r"3 mistakes: \(1\) ladder\.a/b .*: use letters, .*\(2\) ladder\.b c .*\(3\) ladder\.\.\./d ",
        ),
        ({"name": "my study"}, r"my study\.yaml: name = 'my study': becomes a folder's name: use letters"),
        ({"name": "-f"}, r"name = '-f': becomes a folder's name"),
    ],
    ids=["more hard than depth", "no negatives", "one step twice", "a seed twice", "paths", "a space", "an option"],
)
def test_a_study_that_could_not_run_is_refused(new_study, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        new_study(**changes)


@pytest.mark.parametrize("metric", ["nDGC@10", "NDCG@10", "NumRet", "Judged@10", "P", "CE19", "nDCG@0", "a b", ""])
def test_a_metric_that_cannot_be_measured_is_refused(new_study, metric):
    with pytest.raises(StudyError) as caught:
        new_study(evaluation={"metrics": ["AP", metric]})
    assert f": {[metric]} are no rising measures in ir-measures' notation: write nDCG@10, " in str(caught.value)
    assert new_study(evaluation={"metrics": ["AP", "nDCG@3", "Success@5"]}).evaluation.metrics[1] == "nDCG@3"


def test_mistakes_between_fields_are_named_at_once_too(new_study):
    with pytest.raises(StudyError) as caught:
        new_study(
            title=1,
            held_out={"rungs": ["w99", "w6", "w8"]},
            text={"vocabulary": 12, "query_tokens": 20, "pair_tokens": 20},
            training=None,
        )
    message = str(caught.value)
    assert message.startswith("tiny.yaml: 6 mistakes: (1) training missing: ")
    for part in ("title = 1", "['w99'] are not on", "['w4', 'w12'] are left", "vocabulary = 12", "pair_tokens = 20"):
        assert part in message


def test_one_bad_item_is_one_mistake(new_study):
    with pytest.raises(StudyError) as caught:
        new_study(training={"exposures": ["many"]})
    assert "mistakes" not in str(caught.value)
    assert "training.exposures.0 = 'many': input should be a valid integer" in str(caught.value)


def test_field_names_are_words(written):
    message = refusal(written(BRINGS | {1: "x"}))
    assert message == "some.yaml: 1 is not a field of a study: field names are words."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("ladder: [1, 2", "some.yaml is not YAML: .* line 1"),
        ("just words", "some.yaml holds no fields: write `field: value` lines"),
        ("- a\n- b\n", "some.yaml holds no fields"),
        ("", "held_out is missing: add it"),
        ("name: other\nheld_out: {rungs: [a]}\n", "the file's own name"),
    ],
)
def test_a_file_that_is_no_study_is_refused(written, text, sentence):
    with pytest.raises(StudyError, match=sentence):
        load_study(written(text))


def test_a_number_that_yaml_reads_as_a_string_becomes_a_number(written, new_study):
    assert yaml.safe_load("1e-3") == "1e-3"
    tiny = yaml.safe_load(new_study().source.read_text())
    tiny["objectives"]["listwise"]["learning_rate"]["base"] = "REPLACE"
    text = yaml.safe_dump(tiny).replace("REPLACE", "1e-3")
    rate = load_study(written(text)).objectives["listwise"].learning_rate
    assert rate.base == 0.001
    assert rate.at("w32", 32) == pytest.approx(0.001)


def test_whole_numbers_may_be_written_with_an_exponent(new_study):
    study = new_study(ladder={f"w{n}": {"hidden": f"{n}e0"} for n in (4, 8, 12, 48)}, training={"exposures": ["1e5"]})
    assert study.training.exposures == (100_000,)
    assert study.ladder["w48"] == Rung(hidden=48, heads=3, intermediate=96)
    with pytest.raises(StudyError, match=r"training\.exposures\.0 = 100\.5: input should be a valid integer"):
        new_study(training={"exposures": ["100.5"]})


def test_a_study_is_found_by_name_and_by_path(written, tmp_path, monkeypatch):
    path = written(BRINGS, "params/brings.yaml")
    elsewhere = written(BRINGS, "elsewhere/other.yaml")
    assert load_study("brings").source == load_study(path).source == path.resolve()
    assert load_study("params/brings.yaml").source == path.resolve()  # relative to the repository
    monkeypatch.chdir(elsewhere.parent)
    assert load_study("other.yaml").source == elsewhere.resolve()
    assert load_study("other.yaml").measurements_file == (elsewhere.parent / "ladder.csv").resolve()
    assert load_study(str(elsewhere)).name == "other"


def test_a_missing_study_is_refused_with_the_known_ones(written):
    written(BRINGS, "params/one.yaml")
    written(BRINGS, "params/two.yaml")
    for wrong in ("three", "three.yaml"):
        with pytest.raises(StudyError, match=rf"'{wrong}' is neither a YAML file nor one of params/: one, two\."):
            find_study(wrong)


def test_measurements_and_held_out_rungs_are_all_that_a_csv_study_needs(written):
    study = load_study(written(BRINGS))
    assert study.runs == study.fitted_runs == []
    assert study.held_out.rungs == ("1b",)
    assert study.forecasting.level == 0.95


def test_runs_are_the_grid_of_objectives_rungs_and_seeds(new_study):
    rate = {"base": 0.001}
    study = new_study(
        objectives={"pointwise": {"learning_rate": rate}, "listwise": {"seeds": [0, 3], "learning_rate": rate}}
    )
    names = [run.name for run in study.runs]
    assert len(names) == len(set(names)) == 4 * 3
    assert names[:2] == ["pointwise-w4-s0", "pointwise-w6-s0"]
    assert "listwise-w8-s3" in names
    assert {run.rung for run in study.fitted_runs} == {"w4", "w6", "w8"}
    assert study.run("listwise-w12-s3").seed == 3
    assert study.run_folder(study.run("listwise-w12-s3")).relative_to(study.folder).as_posix() == "listwise-w12-s3"
    with pytest.raises(StudyError, match=r"run 'listwise-w5-s0' is not in study tiny: use one of pointwise-w4-s0,"):
        study.run("listwise-w5-s0")


def test_shapes_follow_from_the_hidden_size_unless_given():
    assert Rung(hidden=8).model_dump() == {"hidden": 8, "layers": 2, "heads": 1, "intermediate": 16}
    assert Rung(hidden=48).heads == 3
    assert Rung(hidden=48, heads=4, intermediate=10).model_dump() == {
        "hidden": 48,
        "layers": 2,
        "heads": 4,
        "intermediate": 10,
    }
    assert Rung(hidden=48, heads=0, intermediate=0) == Rung(hidden=48)


def test_the_rate_falls_with_width_by_the_stated_rule(new_study):
    rate = new_study(
        objectives={"listwise": {"learning_rate": {"base": 0.004, "power": 0.5}}}
    ).objectives["listwise"].learning_rate  # fmt: skip
    assert rate.at("w8", 8) == pytest.approx(0.008)
    assert rate.at("w128", 128) == pytest.approx(0.002)


def test_settings_change_with_what_decides_weights_and_with_nothing_else(new_study):
    study = new_study()
    run, other = study.run("listwise-w8-s0"), study.run("listwise-w6-s0")
    before = study.settings_of(run)
    threads = dict(study.training.model_dump(mode="json"), threads=2)
    same = new_study(training=threads, title="other", evaluation={"queries": 20}, held_out={"rungs": ["w4"]})
    assert same.settings_of(run) == before
    assert study.settings_of(other) != before
    for changes in (
        {"text": {"vocabulary": 600}},
        {"first_stage": {"k1": 1.2}},
        {"architecture": "modernbert"},
        {"training": dict(threads, weight_decay=0.1)},
        {"objectives": {"listwise": {"learning_rate": {"base": 0.002}}}},
        {"ladder": study.model_dump()["ladder"] | {"w8": {"hidden": 8, "layers": 3}}},
    ):
        assert new_study(**changes).settings_of(run) != before, changes


def test_no_two_runs_or_purposes_share_a_seed(new_study):
    runs = new_study().runs
    seeds = {run_seed(run, purpose) for run in runs for purpose in ("weights", "data")}
    assert len(seeds) == 2 * len(runs)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert run_seed(runs[0], "data") == run_seed(runs[0], "data")


def test_every_study_of_this_repository_is_valid():
    names = [path.stem for path in (paths.ROOT / "params").glob("*.yaml")]
    assert "demo" in names
    for name in names:
        assert load_study(name).name == name


def test_a_study_of_the_published_ones_name_is_refused(written):
    """Its report would take the place of theirs."""
    said = refusal(written(BRINGS, "site.yaml"))
    assert said == "site.yaml: name = 'site': its report would take the place of the published ones: rename the file."
