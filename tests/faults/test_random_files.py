"""Random TREC runs, judgments, texts and pairs: what is read is what stands there, or one sentence says why not."""

import json
import re

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from rankscale_utils.collections.pair_reader import PairReader
from rankscale_utils.collections.readers import TEXTS as NAMES_OF_TEXTS
from rankscale_utils.collections.readers import RunReader, read_judgments, read_texts
from tests.faults.answers import answer

ODD = st.sampled_from(
    ["", " ", "\t", "q1", "q 2", "\u00a0", "\u2028", "\u0085", "\x1c", "\x0b", "\x0c", "日本", "é", "\ufeff", '"', "'",
     "nan", "inf", "-inf", "1e400", "1e3", "0", "1.0", "1.5", "-1", "1_0", "١", "9" * 30, "NA", "None", "[]",
     '["a"]', '["a", 1]', "{}", "null", "true", "query-id", "corpus-id", "score", "query", "positive", "\\", "\\N",
     "x" * 300]
)  # fmt: skip
ENDS = st.sampled_from(["\n"] * 4 + ["\r\n", "\r", "\n\n"])
ENCODINGS = st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "latin-1"])


def lines_of(good, parted=" "):
    """Return the bytes of a file of lines of these fields, a few of them odd."""

    @st.composite
    def files(draw):
        strange = draw(st.sampled_from([0, 0, 0.05, 0.3]))
        lines = []
        for _ in range(draw(st.integers(0, 6))):
            cells = [
                draw(ODD) if draw(st.floats(0, 1, allow_subnormal=False)) < strange else draw(cell) for cell in good
            ]
            if strange and draw(st.integers(0, 5)) == 0:
                cells = cells[: draw(st.integers(0, len(cells)))] + draw(st.lists(ODD, max_size=2))
            lines.append(
                draw(st.sampled_from([parted] * 6 + ["\t", "  "])).join(cells) if parted == " " else parted.join(cells)
            )
        return draw(ENDS).join([*lines, ""]).encode(draw(ENCODINGS), "replace")

    return files()


WORD = st.sampled_from(["q1", "q2", "d1", "d2", "日本", "a:b"])
TEXT = st.sampled_from(["how to sort", "sort a list", "Ein Satz – mit Strich", "x", "日本語の文"])
RUN = lines_of(
    [
        WORD,
        st.just("Q0"),
        WORD,
        st.integers(1, 9).map(str),
        st.floats(-9, 9, allow_subnormal=False).map(repr),
        st.just("bm25"),
    ]
)
QRELS = lines_of([WORD, st.just("0"), WORD, st.integers(-1, 3).map(str)])
TEXTS = lines_of([WORD, TEXT], "\t")
PAIRS = lines_of([TEXT, TEXT, TEXT], "\t").map(lambda content: b"query\tpositive\tnegative\n" + content)
KEYS = st.one_of(ODD, st.sampled_from(["text", "title"]))
JSON = st.recursive(
    st.one_of(ODD, TEXT, st.none(), st.booleans(), st.floats(allow_subnormal=False), st.integers()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)  # fmt: skip
NAMES = [
    "query",
    "positive",
    "negative",
    "negatives",
    "neg",
    "anchor",
    "answer",
    "grade",
    "label",
    "title",
    "Query ",
    "id",
    "other",
]


@st.composite
def json_lines(draw):
    """Return the lines of a file of pairs in JSON, most of them right."""
    rows = []
    for _ in range(draw(st.integers(0, 5))):
        row = {"query": draw(TEXT), "positive": draw(st.one_of(TEXT, st.lists(TEXT, max_size=2)))}
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=2)):
            row[name] = draw(JSON)
        rows.append(row)
    return rows


def read(tmp_path_factory, name, content, reader):
    """Return what a reader makes of a file, or None where it refuses it in one sentence that names it."""
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    return answer(lambda path: list(reader(path)), path)


def lines_by_hand(content):
    """Return the lines; a mark of UTF-8 is none of their text, as files with one may have been joined."""
    return [line.removeprefix("\ufeff") for line in content.decode().replace("\r\n", "\n").split("\n")]


def by_hand(content):
    """Return the fields of every line that has one, parted by ASCII's blanks."""
    return [fields for line in lines_by_hand(content) if (fields := re.findall(r"[^ \t\n\v\f\r]+", line))]


@given(content=RUN)
def test_a_run_is_read_as_it_stands_or_refused(content, tmp_path_factory):
    if (rows := read(tmp_path_factory, "random.run", content, RunReader)) is not None:
        assert rows == [(query, document, float(score)) for query, _, document, _, score, _ in by_hand(content)]


@given(content=QRELS)
def test_judgments_are_read_as_they_stand_or_refused(content, tmp_path_factory):
    rows = read(tmp_path_factory, "random.qrels", content, lambda path: read_judgments(path).itertuples(index=False))
    if rows is not None and (lines := by_hand(content)) and len(lines[0]) == 4:
        assert [tuple(row) for row in rows] == [
            (query, document, int(float(grade))) for query, _, document, grade in lines
        ]


@given(content=TEXTS)
def test_texts_are_read_as_they_stand_or_refused(content, tmp_path_factory):
    rows = read(tmp_path_factory, "random.tsv", content, read_texts)
    if rows:
        lines = [line.strip("\r") for line in lines_by_hand(content) if line.strip()]
        assert rows == [tuple(line.split("\t", 1)) for line in lines]


@given(content=PAIRS)
def test_pairs_of_a_table_are_read_as_they_stand_or_refused(content, tmp_path_factory):
    rows = read(tmp_path_factory, "random.tsv", content, PairReader)
    if rows:
        assert all(row.query.strip() and row.positive.strip() for row in rows)


def texts_of(positive):
    """Return the texts of a positive: one, an object's title and text, or a list of them."""
    each = positive if isinstance(positive, list) else [positive]
    parts = [
        [one.get("title"), next((one[name] for name in NAMES_OF_TEXTS if name in one), None)]
        if isinstance(one, dict)
        else [one]
        for one in each
    ]
    return [" ".join(part for part in text if part) for text in parts]


@given(rows=json_lines(), kind=st.sampled_from(["jsonl", "parquet"]))
def test_pairs_in_json_or_parquet_are_read_as_they_stand_or_refused(rows, kind, tmp_path_factory):
    if kind == "jsonl":
        content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    else:
        path = tmp_path_factory.getbasetemp() / "made.parquet"
        try:
            pd.DataFrame(rows).to_parquet(path)
        except Exception:  # pyarrow has no column for what is mixed
            return
        content = path.read_bytes()
    pairs = read(tmp_path_factory, f"random.{kind}", content, PairReader)
    if pairs is not None:
        every = [(row["query"], text) for row in rows for text in texts_of(row["positive"])]
        assert [(pair.query, pair.positive) for pair in pairs] == every
        assert all(isinstance(text, str) and text.strip() for pair in pairs for text in pair.negatives)


@given(rows=json_lines(), data=st.data())
def test_bytes_that_are_lost_are_refused_or_read(rows, data, tmp_path_factory):
    content = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    place = data.draw(st.integers(0, len(content)))
    put = data.draw(
        st.one_of(
            st.binary(max_size=3), st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"NaN", b"\\ud800"])
        )
    )
    content = content[:place] + put + content[place + data.draw(st.integers(0, 20)) :]
    pairs = read(tmp_path_factory, "random.jsonl", content, PairReader)
    if pairs is not None:
        assert all(text.encode("utf-8") for pair in pairs for text in (pair.query, pair.positive, *pair.negatives))
    read(tmp_path_factory, "random.jsonl", content, read_texts)
    read(tmp_path_factory, "random.jsonl", content, lambda path: read_judgments(path).itertuples())
