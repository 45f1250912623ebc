"""Random study YAMLs: a study as it was written, or one sentence that names what is wrong."""

import copy
import math
from datetime import date

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rankscale_utils.errors import StudyError
from rankscale_utils.study.loading import load_study
from tests.conftest import REPOSITORY
from tests.faults.answers import answer

SHIPPED = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted((REPOSITORY / "params").glob("*.yaml"))]
SCALARS = st.one_of(
    st.sampled_from(
        [None, True, False, "", " ", "1e3", "1_000", "nan", ".inf", "null", "yes", "../..", "/", "~", "{x}", "a\nb",
         "é", "\u202e", "\U0001f600", "\ufeff", "x" * 5000, 0, -1, 1, 2**63, 10**30, -(10**30), 0.5, 1e308, 1e-308,
         -0.0, float("inf"), float("nan"), b"\xff", date(2026, 1, 1)]
    ),
    st.text(max_size=5),
    st.integers(),
    st.floats(allow_subnormal=False),
)  # fmt: skip
PIECES = [
    b"*a", b"&a ", b"<<: ", b"!!python/object:os.system ", b"!!int ", b"!!map ", b"? ", b"- ", b"{", b"}", b"\t",
    b"---\n", b"%YAML", b"\xef\xbb\xbf", b"!!binary ", b"!!set ", b"0o17", b"0x_", b"1:30:00", b"2026-13-45", b"\n",
    b"'", b"|", b"[" * 2000, b"9" * 5000,
]  # fmt: skip
KEYS = st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def places(fields, at=()):
    """Yield the way to every value."""
    inner = fields.items() if isinstance(fields, dict) else enumerate(fields) if isinstance(fields, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


def part(fields, way):
    for key in way:
        fields = fields[key]
    return fields


@st.composite
def studies(draw):
    """Return a shipped study's fields with one to three of its values changed, added, moved or removed."""
    fields = copy.deepcopy(draw(st.sampled_from(SHIPPED)))
    for _ in range(draw(st.integers(1, 3))):
        ways = list(places(fields))
        if not ways:
            break
        *above, key = draw(st.sampled_from(ways))
        where = part(fields, above)
        match draw(st.integers(0, 6)):
            case 0 | 1 | 2:
                where[key] = draw(VALUES)
            case 3:
                del where[key]
            case 4:
                where[key] = copy.deepcopy(part(fields, draw(st.sampled_from(ways))))
            case 5 if isinstance(where, dict):
                where[
                    draw(
                        st.one_of(st.text(max_size=6), st.sampled_from(["name", "source", "__class__", 1, True, None]))
                    )
                ] = draw(VALUES)
            case _:
                where[key] = [where[key]] if draw(st.booleans()) else {"a": where[key]}
    return fields


def read(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_bytes(content)
    return answer(load_study, path)


def assert_as_written(study, given):
    """Every value that was written stands in the study, but for numbers that YAML takes for words."""
    for name, value in given.items():
        stands = getattr(study, name)
        if isinstance(stands, bool) or isinstance(value, bool):
            assert stands is value, name
        elif isinstance(stands, int | float) and not isinstance(value, dict):  # dimensions may be said by rung
            assert stands == float(value), name
            assert math.isfinite(stands), name
        elif isinstance(stands, str):
            assert stands == value, name
        if isinstance(value, dict) and hasattr(stands, "model_fields_set"):
            assert_as_written(stands, value)


@given(fields=studies())
def test_a_study_is_as_it_was_written_or_refused(fields, tmp_path_factory):
    study = read(tmp_path_factory, yaml.safe_dump(fields, allow_unicode=True, sort_keys=False).encode("utf-8"))
    if study is not None:
        assert_as_written(study, fields)
        if study.measurements is None:
            assert len({run.name for run in study.all_runs}) == len(study.all_runs)


@given(shipped=st.sampled_from(SHIPPED), data=st.data())
def test_a_field_that_no_study_has_and_one_that_stands_twice_are_refused(shipped, data, tmp_path_factory):
    fields = copy.deepcopy(shipped)
    sections = [(), *(way for way in places(fields) if isinstance(part(fields, way), dict))]
    free = [
        ("ladder",),
        ("evaluation", "tests"),
        ("objectives",),
    ]  # whose keys are names of one's own, or of objectives
    way = data.draw(st.sampled_from([way for way in sections if tuple(way[:2]) not in free and way not in free]))
    text = yaml.safe_dump(fields, sort_keys=False)
    part(fields, way)["sedes"] = data.draw(SCALARS)
    path = tmp_path_factory.getbasetemp() / "random.yaml"
    path.write_text(yaml.safe_dump(fields, allow_unicode=True, sort_keys=False), encoding="utf-8")
    with pytest.raises(StudyError, match="sedes"):
        load_study(path)
    key, *_ = text.splitlines()
    path.write_text(f"{text}{key}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=f"{key.partition(':')[0]} stands on lines 1 and"):
        load_study(path)


@given(shipped=st.sampled_from(SHIPPED), data=st.data())
def test_bytes_that_are_lost_or_strange_are_refused_or_read(shipped, data, tmp_path_factory):
    content = yaml.safe_dump(shipped, sort_keys=False).encode("utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        put = data.draw(st.one_of(st.binary(max_size=3), st.sampled_from(PIECES)))
        content = content[:place] + put + content[place + data.draw(st.sampled_from([0, 0, 1, 5, 100, 5000])) :]
    read(tmp_path_factory, content)
