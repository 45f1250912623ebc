import pytest

from rankscale_utils.errors import StudyError
from rankscale_utils.study.loading import load_study

FIELDS = "title: Größe\nmeasurements: ladder.csv\nheld_out: {rungs: [400m]}\n"


@pytest.fixture
def written(tmp_path):
    """Return what writes a study's YAML, as text or bytes, and loads it."""

    def load(fields):
        path = tmp_path / "mine.yaml"
        path.write_bytes(fields if isinstance(fields, bytes) else fields.encode())
        return load_study(path)

    return load


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_study_is_read_as_utf_8_with_or_without_a_mark(written, encoding):
    assert written(FIELDS.encode(encoding)).title == "Größe"


@pytest.mark.parametrize(("encoding", "said"), [
    ("cp1252", "mine.yaml is no UTF-8: on line 1 stands the byte F6, which would be 'ö' in Latin-1"),
    ("utf-16", "mine.yaml is UTF-16: convert it, such as with `iconv -f UTF-16 -t UTF-8`"),
])  # fmt: skip
def test_other_encodings_are_named(written, encoding, said):
    with pytest.raises(StudyError) as refused:
        written(FIELDS.encode(encoding))
    assert said in str(refused.value)


@pytest.mark.parametrize(("more", "said"), [
    ("held_out: {rungs: [17m]}\n", "mine.yaml: held_out stands on lines 3 and 4: remove one of them."),
    ("forecasting:\n  level: 0.95\n  level: 0.8\n", "mine.yaml: level stands on lines 5 and 6: remove one of them."),
])  # fmt: skip
def test_a_field_that_stands_twice_is_refused_with_both_lines(written, more, said):
    with pytest.raises(StudyError) as refused:
        written(FIELDS + more)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("evaluation: {queries: 0100}\n", "line 4: 0100 is 64 to YAML, which reads numbers with leading zeros in"),
        ("evaluation: {queries: 1:40}\n", "1:40 is 100 to YAML, which reads numbers with colons in base 60"),
        ("evaluation: {metrics: [AP, RR@10, AP]}\n", r"evaluation.metrics = .*: 'AP' stands twice: remove one of them"),
        ("evaluation: {tests: {nfc: docstrings, NFC: docstrings}}\n", "only case tells nfc and NFC apart"),
    ],
)  # fmt: skip
def test_what_yaml_or_a_list_takes_for_something_else_is_refused(written, more, said):
    with pytest.raises(StudyError, match=said) as caught:
        written(FIELDS + more)
    assert "\n" not in str(caught.value)


def test_numbers_that_mean_the_same_in_every_base_are_numbers(written):
    forecasting = written(FIELDS + "forecasting: {draws: 1_00, checkpoints: 07, burn_in: 0.05}\n").forecasting
    assert (forecasting.draws, forecasting.checkpoints, forecasting.burn_in) == (100, 7, 0.05)


def test_a_mistyped_field_is_compared_with_those_that_may_stand_there(written):
    with pytest.raises(StudyError, match=r"forecasting\.levle is not a field of a study, did you mean level\?"):
        written(FIELDS + "forecasting: {levle: 0.8}\n")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("note: 2026-13-45\n", "line 4: this is no timestamp (month must be in 1..12): correct it"),
        ("note: 0x_\n", "line 4: this is no int (invalid literal for int() with base 16: ''): correct it"),
        ("note: !!int ''\n", "line 4: this is no int (string index out of range): correct it"),
        ("note: !!map [1]\n", "expected a mapping node, but found sequence"),
        ("note: " + "[" * 2000 + "\n", "nests lists or fields too deeply to be read: write fewer levels"),
        ("evaluation: {queries: yes}\n", "evaluation.queries = True: must be a number, not yes or no"),
        ("evaluation: {queries: 1000000000000000000000}\n", "less than or equal to 9007199254740992"),
        ("first_stage: {k1: .inf}\n", "first_stage.k1 = inf: input should be a finite number"),
        ("evaluation: {depth: " + "x" * 300 + "}\n", "evaluation.depth = '" + "x" * 199 + "…: "),
        ('"a\\nb": 1\n', "a\\nb is not a field of a study"),
    ],
)
def test_what_yaml_or_a_study_has_no_value_for_is_one_sentence(written, more, said):
    with pytest.raises(StudyError) as refused:
        written(f"{FIELDS}{more}")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
