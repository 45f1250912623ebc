"""Random measurement tables: what is read is what stands there, by a reader of another make, or one sentence says why
not."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rankscale_utils.measurements.reading import read_measurements
from rankscale_utils.measurements.table import NUMBERS, WORDS
from tests.faults.answers import answer

COLUMNS = ["objective", "rung", "params", "seed", "exposure", "collection", "metric", "value"]
OTHERS = ["params_non_embedding", "tokens", "queries", "flops", "ceiling", "first_stage", "excluded", "task", "score",
          "run", "", " ", "Value", "value ", "value.1", "note", "индекс", "\ufeffvalue", "a\x00b"]  # fmt: skip
WORD = st.sampled_from(
    ["listwise", "17m", "400m", "NA", "None", "nan", "dev", "nDCG@10", "CE19", "bpb", "val_loss", "日本", "a,b",
     'say "x"', "two\nlines", "two\rlines", " blank ", "\u00a0", "\u2028", "", "1e3", "0x10", "-0", "True", "=1+1",
     "\x1c", "\x85"]
)  # fmt: skip
NUMBER = st.one_of(
    st.sampled_from(
        ["", " ", "NA", "NaN", "nan", "inf", "-inf", "Infinity", "1e400", "1e-400", "-1", "-0", "0", "1_000", "1,5",
         "1.5", " 2 ", "0x10", "1e3", "+7", "١٢", "9007199254740993", "1" * 25, "True", "0.1.2", "½", "1d5", "1e", ".",
         "1 000", "<NA>", "null", "1\n", "9223372036854775808", "--1", "1%", "1f", "0.30000000000000004"]
    ),
    st.floats(allow_nan=False, allow_subnormal=False).map(repr),
    st.integers(-3, 2**70).map(str),
)  # fmt: skip
GOOD = {
    "params": st.integers(1000, 10**12).map(str),
    "seed": st.integers(0, 9).map(str),
    "exposure": st.integers(1, 10**9).map(str),
    "value": st.floats(0, 1, allow_subnormal=False).map(repr),
}


@st.composite
def tables(draw):
    """Return the bytes of a CSV: most cells right, some not."""
    names = draw(st.permutations(COLUMNS)) + draw(st.lists(st.sampled_from(OTHERS + COLUMNS), max_size=2))
    names = names[draw(st.sampled_from([0, 0, 0, 1])) :]
    strange = draw(st.sampled_from([0, 0.02, 0.2]))
    rows = []
    for row in range(draw(st.integers(0, 8))):
        cells = []
        for name in names:
            odd = draw(st.floats(0, 1, allow_subnormal=False)) < strange
            if odd or name not in COLUMNS:
                cell = draw(NUMBER if name in NUMBERS else st.one_of(WORD, NUMBER))
            else:
                cell = draw(GOOD[name]) if name in GOOD else f"{name}{row % 4}"
            cells.append(cell)
        rows.append(cells)
        if strange:
            rows += draw(
                st.sampled_from([[]] * 8 + [[[]], [cells], [[*cells, "more"]], [cells[:-1]], [[""] * len(names)]])
            )
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]))
    writer = csv.writer(
        text,
        delimiter=draw(st.sampled_from([","] * 9 + [";", "\t", "|"])),
        quoting=quoting,
        escapechar="\\" if quoting == csv.QUOTE_NONE else None,
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
    )
    writer.writerows([names, *rows])
    encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "latin-1", "utf-8"]))
    content = text.getvalue().encode(encoding, "replace")
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(max_size=3)) + content[place + draw(st.integers(0, 40)) :]
    return content


def by_hand(content):
    """Return a CSV's records by Python's own reader, blanks around names and cells left out."""
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    names, *rows = [[cell.strip() for cell in line] for line in lines]
    return [dict(zip(names, row, strict=False)) for row in rows if any(row)]


def assert_as_written(table, content):
    records = by_hand(content)
    assert len(table) == len(records)
    for (_, row), record in zip(table.iterrows(), records, strict=True):
        for word in WORDS:
            assert row[word] == record[word]
        for name in set(NUMBERS) & set(record):
            if math.isnan(row[name]):
                assert (
                    record[name] in {"", "NA", "N/A", "NaN", "nan", "None", "null", "NULL", "<NA>"}
                    or record["excluded"]
                )
            else:
                assert row[name] == pytest.approx(float(record[name]), rel=1e-15)
        assert row["params"] > 0
        assert row["exposure"] > 0
        assert np.isfinite(row["value"]) or record["excluded"]


@given(content=tables())
def test_a_table_is_read_as_it_stands_or_refused(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "random.csv"
    path.write_bytes(content)
    if (table := answer(read_measurements, path)) is not None:
        assert_as_written(table, content)
