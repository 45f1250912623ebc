import io
import re

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.analysis.sealing import Basis
from rankscale_utils.errors import StudyError
from rankscale_utils.measurements.reading import check_held_out, read_ladder, read_measurements, study_measurements
from rankscale_utils.measurements.table import labelled, measured_rows, on_headline_test
from rankscale_utils.pipeline.batch import check
from rankscale_utils.study import paths
from rankscale_utils.study.loading import load_study

SIZES = {"17m": 4e6, "32m": 12e6, "68m": 42e6, "1b": 1e9}


@pytest.fixture
def table():
    rows = [
        ("listwise", rung, size, exposure, "dev", metric, 0.3 if metric == "nDCG@10" else 2.5)
        for rung, size in SIZES.items()
        for exposure in (1000, 2000)
        for metric in ("nDCG@10", "CE64")
    ]
    return pd.DataFrame(rows, columns=["objective", "rung", "params", "exposure", "collection", "metric", "value"])


@pytest.fixture
def brings(tmp_path, monkeypatch):
    """Write a CSV and a study that brings it; return the study."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)

    def write(table, held_out=("1b",), more=""):
        text = table if isinstance(table, str) else table.to_csv(index=False)
        (tmp_path / "ladder.csv").write_text(text)
        rungs = ", ".join(held_out)
        (tmp_path / "mine.yaml").write_text(f"measurements: ladder.csv\nheld_out: {{rungs: [{rungs}]}}\n{more}")
        return load_study(tmp_path / "mine.yaml")

    return write


def changed(table, column, value, row=3):
    table = table.copy()
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    return table


def sentence_of(study):
    """Return the one sentence with which a study's measurements are refused before any work is done."""
    with pytest.raises(StudyError) as caught:
        check(study)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 300
    assert said.endswith(".")
    return said


POSITIVE = "must be a positive, finite number; correct or drop the row."


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("params", -5, f"params = -5: {POSITIVE}"),
        ("params", -5e6, f"params = -5000000.0: {POSITIVE}"),
        ("params", 0, f"params = 0: {POSITIVE}"),
        ("params", np.inf, f"params = inf: {POSITIVE}"),
        ("params", "17M", f"params = '17M': {POSITIVE}"),
        ("params", None, f"params is empty: {POSITIVE}"),
        ("exposure", "-1e3", f"exposure = -1e3: {POSITIVE}"),
        ("exposure", "many", f"exposure = 'many': {POSITIVE}"),
        ("flops", 0, f"flops = 0: {POSITIVE}"),
        ("ceiling", "high", "ceiling = 'high': must be a finite number; correct or drop the row."),
        ("value", -0.1, "value = -0.1: must be a finite number and not negative; correct or drop the row."),
        ("value", None, "value is empty: must be a finite number and not negative; correct or drop the row."),
        ("value", "high", "value = 'high': must be a finite number and not negative; correct or drop the row."),
        ("value", "inf", "value = inf: must be a finite number and not negative; correct or drop the row."),
        ("seed", 1.5, "seed = 1.5: must be a whole number; correct or drop the row."),
        ("seed", "one", "seed = 'one': must be a whole number; correct or drop the row."),
        ("seed", np.inf, "seed = inf: must be a whole number; correct or drop the row."),
        ("seed", None, "seed is empty: must be a whole number; correct or drop the row."),
        ("rung", None, "rung is empty: fill it in or drop the row."),
    ],
)
def test_a_wrong_cell_is_named_with_its_line_and_the_remedy(brings, table, column, value, said):
    table = table.assign(seed=0, flops=1.0, ceiling=1.0)
    assert sentence_of(brings(changed(table, column, value))) == f"ladder.csv, line 5: {said}"


def test_blank_lines_count_as_lines_and_are_no_rows(brings, table):
    lines = table.to_csv(index=False).splitlines()
    read = study_measurements(brings("\n".join([lines[0], "", *lines[1:], "", ""])), fitted_only=False)
    assert read.index.tolist() == list(range(len(table)))
    wrong = changed(table, "value", "x", row=0).to_csv(index=False).replace("\n", "\n\n", 1)
    assert "ladder.csv, line 3: value = 'x'" in sentence_of(brings(wrong))


@pytest.mark.parametrize("value", [1.2, 34.8])
def test_a_metric_above_one_is_refused(brings, table, value):
    row = table.index[table["metric"] == "nDCG@10"][2]
    said = sentence_of(brings(changed(table, "value", value, row)))
    assert f"ladder.csv, line {row + 2}: nDCG@10 = {value} is above 1" in said
    assert "as a share, not in percent" in said


def test_entropies_may_exceed_one(brings, table):
    assert study_measurements(brings(table), fitted_only=False)["value"].max() == 2.5


def test_a_missing_column_is_named_beside_those_there_are(brings, table):
    said = sentence_of(brings(table.drop(columns="value")))
    assert "ladder.csv lacks the column value: it has objective, rung, params" in said
    said = sentence_of(brings(table.rename(columns={"metric": "measure", "params": "N"})))
    assert "lacks the columns params, metric: it has objective, rung, N, exposure, collection, measure" in said
    assert "rename or add" in said


def test_repeated_rows_are_named(brings, table):
    said = sentence_of(brings(pd.concat([table, table.iloc[[2]]])))
    assert f"ladder.csv, lines 4 and {len(table) + 2} both hold run listwise-17m-s0 at exposure 2000" in said
    assert "for nDCG@10 on dev, as 0.3 and 0.3: " in said
    assert "drop one of the rows, or give them different seeds" in said
    two_seeds = pd.concat([table.assign(seed=0), table.assign(seed=1)])
    assert study_measurements(brings(two_seeds), fitted_only=False)["run"].nunique() == 8
    with_seeds_as_floats = two_seeds.assign(seed=two_seeds["seed"].astype(float))
    assert {run[-3:] for run in study_measurements(brings(with_seeds_as_floats), fitted_only=False)["run"]} == {
        "-s0",
        "-s1",
    }


def test_a_missing_file_is_named(brings, table, tmp_path):
    study = brings(table)
    (tmp_path / "ladder.csv").unlink()
    said = sentence_of(study)
    assert "measurements = " in said
    assert "ladder.csv" in said
    assert "no such file; correct the path, which in a study is relative to its YAML" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty: write a line of column names"),
        ("a,b\n1,2\n1,2,3\n", "is no CSV in UTF-8: Expected 2 fields in line 3, saw 3; correct that line."),
        ("a,b\n1,2,3\n1,2,3\n", "has rows with more cells than there are column names"),
        ("objective,rung,params,exposure,collection,metric,value\n", "has no rows: add a row for every measurement."),
    ],
    ids=["empty", "ragged", "headless column", "only a header"],
)
def test_a_file_that_is_no_table_is_refused(brings, text, said):
    assert sentence_of(brings(text)).startswith(f"ladder.csv {said}")


def test_held_out_rungs_without_a_row_are_named(brings, table):
    said = sentence_of(brings(table, held_out=("400m", "2b")))
    assert "held_out.rungs ['400m', '2b'] have no row in the measurements" in said
    assert "'17m', '32m', '68m', '1b'" in said
    assert "correct them" in said


def test_three_rungs_must_be_left_to_fit(brings, table):
    assert "2 rungs are left to fit: a size law needs three or more" in sentence_of(brings(table, ("68m", "1b")))


def test_further_columns_are_carried_along_and_absent_ones_get_their_defaults(brings, table):
    study = brings(table.assign(note="mine", temperature=range(len(table))))
    check(study)
    read = study_measurements(study, fitted_only=False)
    assert set(read["note"]) == {"mine"}
    assert read["temperature"].tolist() == list(range(len(table)))
    assert set(read["seed"]) == {0}
    assert (read["params_non_embedding"] == read["params"]).all()
    assert set(read["run"]) == {f"listwise-{rung}-s0" for rung in SIZES}
    given = brings(table.assign(seed=3, params_non_embedding=table["params"] / 2))
    read = study_measurements(given, fitted_only=False)
    assert (read["params_non_embedding"] == read["params"] / 2).all()
    assert "listwise-1b-s3" in set(read["run"])


def test_rungs_may_look_like_numbers(brings, table):
    numbers = table.assign(rung=table["rung"].map({"17m": 17, "32m": 32, "68m": 68, "1b": 1000}))
    study = brings(numbers, held_out=("'1000'",))
    assert set(study_measurements(study, fitted_only=True)["rung"]) == {"17", "32", "68"}


def test_the_fitted_rows_hold_no_held_out_rung(brings, table):
    study = brings(table)
    assert set(study_measurements(study, fitted_only=True)["rung"]) == {"17m", "32m", "68m"}
    assert set(study_measurements(study, fitted_only=False)["rung"]) == set(SIZES)


def test_a_study_that_trains_names_the_run_that_was_not_evaluated(tiny_study):
    with pytest.raises(
        StudyError, match="run listwise-w4-s0 has not been evaluated: run `make study STUDY=tiny` first"
    ):
        study_measurements(tiny_study, fitted_only=True)


def test_rows_with_a_reason_are_no_measurements(table):
    assert len(measured_rows(table)) == len(table)
    marked = table.assign(excluded=["failed"] + [""] * (len(table) - 1))
    assert measured_rows(marked).index.tolist() == list(range(1, len(table)))


def test_a_table_of_our_own_comes_back_as_a_csv(brings, table):
    failures = ["failed"] + [""] * (len(table) - 1)
    ours = table.assign(excluded=failures, queries=None, tokens=None, flops=None, ceiling=None, first_stage=None)
    ours.loc[0, "value"] = np.nan
    read = study_measurements(brings(ours), fitted_only=False)
    assert read["excluded"].tolist() == failures
    assert np.isnan(read["value"][0])
    assert read[["flops", "ceiling"]].dtypes.eq(float).all()
    again = study_measurements(brings(read), fitted_only=False)
    pd.testing.assert_frame_equal(again, read)
    assert len(measured_rows(again)) == len(table) - 1


@pytest.fixture
def measured(tiny_study, table):
    """Write the measurements of every run of the tiny study; those named leave none."""

    def write(*without):
        rows = table[table["rung"] == "17m"].assign(seed=0, params_non_embedding=1.0, excluded="")
        for run in tiny_study.runs:
            folder = tiny_study.run_folder(run)
            folder.mkdir(parents=True)
            left = rows.assign(run=run.name, rung=run.rung).iloc[: 0 if run.rung in without else None]
            left.to_parquet(folder / "measurements.parquet")
        return tiny_study

    return write


@pytest.mark.filterwarnings("error")
def test_a_run_that_left_no_measurement_stops_no_study(measured):
    assert set(study_measurements(measured("w6"), fitted_only=False)["rung"]) == {"w4", "w8", "w12"}


def test_runs_that_all_left_no_measurement_are_refused(measured):
    with pytest.raises(StudyError, match="none of 3 runs left a measurement: lower the learning rate"):
        study_measurements(measured("w4", "w6", "w8"), fitted_only=True)


def test_a_table_is_read_as_the_csv_that_it_would_be_written_to(tmp_path, table):
    rng = np.random.default_rng(0)
    table = table.assign(value=rng.random(len(table)) / 3, seed=1, note="α, β", ceiling=[0.7, None] * (len(table) // 2))
    table.to_csv(tmp_path / "ladder.csv", index=False)
    shuffled_index = table.set_index(pd.Index(range(100, 100 + len(table))))
    read = read_measurements(shuffled_index)
    pd.testing.assert_frame_equal(read, read_measurements(tmp_path / "ladder.csv"), check_exact=True)
    pd.testing.assert_frame_equal(read, read_measurements(str(tmp_path / "ladder.csv")), check_exact=True)
    assert read["value"].tolist() == table["value"].tolist()
    pd.testing.assert_frame_equal(read_measurements(read), read)


@pytest.mark.parametrize(("column", "value"), [("params", -5.0), ("value", None), ("seed", 1.5), ("rung", None)])
def test_a_wrong_cell_of_a_table_has_the_csvs_sentence(brings, table, column, value):
    wrong = changed(table.assign(seed=0), column, value)
    with pytest.raises(StudyError) as caught:
        read_measurements(wrong)
    assert str(caught.value) == sentence_of(brings(wrong)).replace("ladder.csv, line 5", "measurements, row 3")


def test_labels_called_na_and_none_are_labels(table, brings):
    names = {"17m": "NA", "32m": "None", "68m": "nan"}
    read = study_measurements(brings(table.replace({"rung": names, "collection": {"dev": "null"}})), fitted_only=False)
    assert list(read["rung"].unique()) == ["NA", "None", "nan", "1b"]
    assert set(read["collection"]) == {"null"}
    assert read["run"].iloc[0] == "listwise-NA-s0"
    fitted = study_measurements(brings(table.replace({"rung": {"1b": "NA"}}), held_out=("NA",)), fitted_only=True)
    assert "NA" not in set(fitted["rung"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda text: text.replace("listwise", "Größe").encode("latin-1"), "is no UTF-8: on line 2 stands the byte F6, "
         "which would be 'ö' in Latin-1: convert it, such as with `iconv -f WINDOWS-1252 -t UTF-8`."),
        (lambda text: text.encode("utf-16"), "is UTF-16: convert it, such as with `iconv -f UTF-16 -t UTF-8`."),
        (lambda text: text.replace(",", ";").replace(".", ",").encode(), "parts its cells by semicolons, and may write "
         "decimal commas: save it with commas between cells and decimal points, such as by pandas.read_csv(FILE, "
         "sep=';', decimal=',').to_csv(FILE, index=False)."),
        (lambda text: text.replace(",", "\t").encode(), "parts its cells by tabs, and may write decimal commas"),
        (lambda text: b"PK\x03\x04\x14\x00" + text.encode(), "is a ZIP archive or a spreadsheet: unpack it, or"),
    ],
)  # fmt: skip
def test_what_is_no_csv_in_utf8_is_named(table, brings, tmp_path, data, said):
    study = brings(table)
    (tmp_path / "ladder.csv").write_bytes(data(table.to_csv(index=False)))
    assert f"ladder.csv {said}" in sentence_of(study)


def test_a_csv_may_begin_with_a_byte_order_mark(table, brings, tmp_path):
    study = brings(table)
    (tmp_path / "ladder.csv").write_bytes(b"\xef\xbb\xbf" + table.to_csv(index=False).encode())
    assert len(study_measurements(study, fitted_only=False)) == len(table)


def test_task_and_score_tell_rows_apart_and_may_be_absent(brings, table):
    read = study_measurements(brings(table), fitted_only=False)
    assert set(read["task"]) == {"rerank"}
    assert set(read["score"]) == {"own"}
    other = table.assign(value=0.25)
    both = pd.concat([table.assign(task="rerank"), other.assign(task="search")], ignore_index=True)
    read = study_measurements(brings(both.assign(score="own")), fitted_only=False)
    assert len(read) == 2 * len(table)
    assert set(labelled(read)["collection"]) == {"dev", "dev, searched"}
    assert on_headline_test(read, None)["task"].unique().tolist() == ["rerank"]
    both = pd.concat([table.assign(score="own"), other.assign(score="true_false")], ignore_index=True)
    read = study_measurements(brings(both), fitted_only=False)
    assert set(labelled(read)["metric"]) == {"nDCG@10", "CE64", "nDCG@10 by true_false", "CE64 by true_false"}
    strange = changed(table.assign(task="rerank"), "task", "qa")
    assert sentence_of(brings(strange)) == (
        "ladder.csv, line 5: task = 'qa': must be rerank or search; correct it, or give the column another name."
    )


def test_a_study_opens_with_the_test_that_it_names_or_else_with_the_first(brings, table):
    both = pd.concat([table, table.assign(collection="web")], ignore_index=True)
    study = brings(both, more="forecasting: {headline_test: web}")
    read = study_measurements(study, fitted_only=False)
    assert read["collection"].unique().tolist() == ["dev", "web"]  # a choice of what is shown, not of what is fitted
    assert set(on_headline_test(read, study.headline_test)["collection"]) == {"web"}
    assert set(on_headline_test(read, None)["collection"]) == {"dev"}
    assert Basis.of(study, "a", []) == Basis.of(brings(both), "a", [])
    assert sentence_of(brings(both, more="forecasting: {headline_test: wbe}")) == (
        "forecasting.headline_test = 'wbe' is no test: name one of dev, web."
    )


BLANKS = {
    "names": ("objective, rung ,params", "listwise,017m,17000000"),
    "cells": ("objective,rung,params", "listwise , 017m,17000000"),
    "marked": ("\ufeffobjective,rung,params", "listwise,017m, 17000000"),
}


@pytest.mark.parametrize(("header", "row"), BLANKS.values(), ids=BLANKS)
def test_blanks_around_names_and_labels_mean_nothing(tmp_path, header, row):
    path = tmp_path / "ladder.csv"
    rest = "exposure,collection,metric,value", "1000,dev,nDCG@10,0.3"
    path.write_text(f"{header},{rest[0]}\n{row},{rest[1]}\n", encoding="utf-8")
    table = read_measurements(path)
    assert table[["objective", "rung", "params"]].to_numpy().tolist() == [["listwise", "017m", 17e6]]


def test_a_second_column_of_one_name_is_refused(tmp_path):
    path = tmp_path / "ladder.csv"
    path.write_text("objective,rung,value, value\nlistwise,17m,0.3,0.4\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"ladder\.csv has the column value twice, as its columns 3 and 4: remove one"):
        read_measurements(path)


@pytest.fixture
def values(table):
    """A ladder of two metrics that improve with size and exposure."""
    gain = 0.05 * np.log10(table["params"]) + 0.02 * np.log2(table["exposure"] / 1000)
    return table.assign(value=gain.where(table["metric"] == "nDCG@10", 3 - gain))


def test_line_numbers_are_those_of_an_editor(brings, values):
    noted = values.assign(note="two\nlines")
    text = changed(noted, "value", "high", row=3).to_csv(index=False)
    said = sentence_of(brings(text))
    assert said.startswith("ladder.csv, line 8: value = 'high'")
    assert text.splitlines()[7].startswith("listwise,17m")
    assert ",high," in text.splitlines()[7]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("params", 5e6, "lines 2 and 5: rung 17m of listwise has params = 4000000 and 5000000: correct one of them, "
         "or give models of another size a rung of their own."),
        ("flops", 2e15, "lines 4 and 5: run listwise-17m-s0 at exposure 2000 has flops = 1e+15 and 2e+15: correct one "
         "of them, or give runs different seeds."),
        ("ceiling", 0.8, "lines 3 and 5: CE64 of listwise on dev has ceiling = 0.7 and 0.8: correct one of them, or "
         "give other candidates a collection of their own."),
    ],
)  # fmt: skip
def test_two_values_of_what_has_one_are_refused_with_both_lines(brings, values, column, value, said):
    table = values.assign(flops=1e15, ceiling=0.7)
    assert sentence_of(brings(changed(table, column, value))) == f"ladder.csv, {said}"


def test_one_run_with_two_values_is_refused_with_both_lines_and_values(brings, values):
    again = values.iloc[[2]].assign(value=0.25)
    assert sentence_of(brings(pd.concat([values, again]))) == (
        "ladder.csv, lines 4 and 18 both hold run listwise-17m-s0 at exposure 2000 for nDCG@10 on dev, as 0.350103 and "
        "0.25: drop one of the rows, or give them different seeds."
    )
    with pytest.raises(StudyError, match="measurements, rows 2 and 16 both hold run listwise-17m-s0"):
        read_measurements(pd.concat([values, again]))


def test_names_whose_dashes_make_one_run_of_two_are_refused(values):
    dashes = values.assign(objective="a", rung="b-" + values["rung"])
    other = values.assign(objective="a-b")
    with pytest.raises(StudyError, match="rows 0 and 16: run a-b-17m-s0 has objective = a and a-b: correct one"):
        read_measurements(pd.concat([dashes, other.assign(exposure=other["exposure"] + 1)]))


@pytest.mark.parametrize(("column", "other"), [("rung", "17M"), ("metric", "ndcg@10"), ("collection", "Dev")])
def test_two_spellings_of_one_label_are_refused_with_both_lines(brings, values, column, other):
    said = sentence_of(brings(changed(values, column, other, row=2)))
    assert said == (
        f"ladder.csv, lines 2 and 4: {column} is {values[column][0]!r} and {other!r}, which only case, "
        "blanks or signs that nobody sees tell apart: write one of them everywhere."
    )


@pytest.mark.parametrize(
    ("first", "other", "written"),
    [
        ("café", "cafe\u0301", r"'caf\xe9' and 'cafe\u0301'"),
        ("17m", "17m\u200b", r"'17m' and '17m\u200b'"),
        ("17m", "１７m", r"'17m' and '\uff11\uff17m'"),
    ],
)
def test_labels_that_look_alike_are_one_label_in_two_spellings(values, first, other, written):
    table = values.assign(collection=[first, other] * (len(values) // 2))
    with pytest.raises(StudyError, match=re.escape(f"rows 0 and 1: collection is {written}, which only case")):
        read_measurements(table)
    assert set(read_measurements(values.assign(collection=other))["collection"]) == {other}  # as it was written


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"first_stage": 35.0},
            "first_stage = 35.0 of nDCG@10 is above 1, the most that it can be: give it as a share",
        ),
        ({"ceiling": 62.0}, "ceiling = 62.0 of nDCG@10 is above 1"),
        ({"random_order": 12}, "random_order = 12 of nDCG@10 is above 1"),
        (
            {"ceiling": 0.6, "first_stage": 0.7},
            "first_stage = 0.7 of nDCG@10 is above its ceiling, 0.6 in the same row",
        ),
    ],
)
def test_what_values_are_compared_with_is_a_share_too(values, columns, said):
    rising = values[values["metric"] == "nDCG@10"]
    with pytest.raises(StudyError, match=f"^measurements, row 0: {said}"):
        read_measurements(rising.assign(**columns))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.assign(params=table["params"] / 1e6), "row 0: params = 4: no ranker is so small: count"),
        (lambda table: table.assign(params=table["params"].where(table["rung"] != "68m", 68)), "params = 68: no"),
        (lambda table: table.assign(params=table["params"] * 1e3), "rung 17m has params = 4000000000: count single "),
        (lambda table: table.assign(params_non_embedding=table["params"] * 2),
         "params_non_embedding = 8000000 is more than params = 4000000, which counts all"),
    ],
)  # fmt: skip
def test_sizes_count_single_parameters(values, change, said):
    with pytest.raises(StudyError, match=said):
        read_measurements(change(values))


def test_a_rung_may_be_named_after_either_count_or_nothing(values):
    for rung, params, inner in (("1m", 3e6, 1.1e6), ("17m", 1.68e7, 3.9e6), ("w48", 434_449, 38_065), ("7", 2e9, 1e9)):
        table = values[values["rung"] == "1b"].assign(rung=rung, params=params, params_non_embedding=inner)
        assert set(read_measurements(table)["rung"]) == {rung}


def test_a_column_that_only_case_tells_from_a_known_one_is_refused(values):
    with pytest.raises(StudyError, match="has the column Seed, which only case tells from seed: rename it to seed"):
        read_measurements(values.assign(Seed=1))


def test_columns_that_a_spreadsheet_left_behind_are_passed_over_and_counted(tmp_path, values):
    lines = values.to_csv(index=False).splitlines()
    (tmp_path / "ladder.csv").write_text("\n".join(f"{line},," for line in lines) + "\n", encoding="utf-8")
    reading = read_ladder(tmp_path / "ladder.csv", (), ["1b"])
    pd.testing.assert_frame_equal(reading.table, read_measurements(values))
    assert (2, "columns without a name or a cell were passed over") in [
        (each.count, each.what) for each in reading.changes
    ]
    values.to_csv(tmp_path / "ladder.csv")  # with R's or pandas' row numbers
    assert read_measurements(tmp_path / "ladder.csv")["column 1"].tolist() == list(range(len(values)))


def test_measurements_are_read_from_packed_files_too(tmp_path, values):
    values.to_csv(tmp_path / "ladder.csv.gz", index=False)
    values.to_parquet(tmp_path / "ladder.parquet")
    wanted = read_measurements(values)
    for name in ("ladder.csv.gz", "ladder.parquet"):
        pd.testing.assert_frame_equal(read_measurements(tmp_path / name), wanted)
    (tmp_path / "cut.csv.gz").write_bytes((tmp_path / "ladder.csv.gz").read_bytes()[:100])
    with pytest.raises(StudyError, match=r"cut.csv.gz cannot be unpacked: .*; replace the file"):
        read_measurements(tmp_path / "cut.csv.gz")
    values.assign(value=50.0).to_parquet(tmp_path / "percent.parquet")
    with pytest.raises(StudyError, match=r"percent.parquet, row 0: nDCG@10 = 50.0 is above 1"):
        read_measurements(tmp_path / "percent.parquet")


def test_json_is_named(tmp_path, values):
    values.to_json(tmp_path / "ladder.csv", orient="records")
    with pytest.raises(StudyError, match=r"ladder.csv is JSON: save it as a CSV, such as by pandas.read_json\(FILE\)"):
        read_measurements(tmp_path / "ladder.csv")


def test_a_value_above_its_ceiling_is_refused(brings, values):
    table = values.assign(ceiling=values["metric"].map({"nDCG@10": 0.5}))
    check(brings(table))
    assert sentence_of(brings(changed(table, "value", 0.52, row=4))) == (
        "ladder.csv, line 6: nDCG@10 = 0.52 is above its ceiling, 0.5 in the same row, which no reranking of these "
        "candidates can pass: correct one of them."
    )
    rounded = changed(table, "value", 0.5004, row=4)
    assert read_measurements(rounded)["value"][4] == 0.5004


def test_an_entropy_is_not_negative(brings, values):
    assert sentence_of(brings(changed(values, "value", -0.01))) == (
        "ladder.csv, line 5: value = -0.01: must be a finite number and not negative; correct or drop the row."
    )


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("=1+1", True),
        ("@SUM(1)*cmd|' /C calc'!A0", True),
        ("-2+cmd|' /C calc'!A0", True),
        ("+hard", False),
        ("-", False),
    ],
)
def test_a_name_that_a_spreadsheet_would_run_is_refused(values, name, refused):
    table = values.assign(objective=name)
    if not refused:
        assert set(read_ladder(table, (), ["1b"]).table["objective"]) == {name}
        return
    with pytest.raises(StudyError, match=r"objective = .* is a formula, which spreadsheets run .* rename it"):
        read_ladder(table, (), ["1b"])


def test_a_column_for_every_metric_is_refused_with_the_remedy():
    wide = pd.DataFrame({"rung": ["17m"], "nDCG@10": [0.3]})
    with pytest.raises(StudyError, match=r"lacks the columns objective, .*; rename or add .* by pandas' melt"):
        read_ladder(wide, (), ["17m"])


def test_what_was_changed_on_reading_is_counted(values):
    text = values.drop(columns="objective").to_csv(index=False).replace("17m,", " 17m ,", 3)
    table = pd.read_csv(io.StringIO(text), skipinitialspace=False).assign(objective="listwise")
    table.loc[len(table)] = None
    reading = read_ladder(table, (), ["1b"])
    assert len(reading.table) == len(values)
    assert [(change.count, change.what) for change in reading.changes if change.count] == [
        (3, "blanks around a label were dropped"),
        (1, "rows without a single cell were passed over"),
        (16, "rows got seed = 0, as there is no such column"),
        (16, "rows got params_non_embedding = params, as there is no such column"),
    ]
    assert {change.where for change in reading.changes} == {"measurements"}


def crashed(*rungs):
    ladder = ["17m", "32m", "68m", "150m", "400m"]
    return pd.DataFrame({"rung": ladder, "excluded": ["diverged" if rung in rungs else "" for rung in ladder]})


def test_rungs_whose_every_row_is_excluded_are_no_rungs_to_fit_or_to_hold_out():
    check_held_out(crashed("17m"), ["400m"])
    with pytest.raises(StudyError, match="2 rungs are left to fit, as every row of 17m, 68m is excluded"):
        check_held_out(crashed("17m", "68m"), ["400m"])
    with pytest.raises(StudyError, match=r"held_out\.rungs \['400m'\]: every row of them is excluded"):
        check_held_out(crashed("400m"), ["400m"])
