"""Pairs under the names that the world's training files give them."""

import gzip
import json

import pandas as pd
import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.pair_reader import Pair, PairReader
from rankscale_utils.collections.sources import open_source
from rankscale_utils.errors import StudyError
from rankscale_utils.study.collection import Columns
from tests.collections.test_readers import TRAINING, changes_of, many_pairs, tale, write

PEAR = {"query": "find a pear", "positive": "the tale of a pear"}
FRUIT = ["an apple", "a plum"]
READ = [Pair("find a pear", "the tale of a pear", FRUIT, 1)]


def read_json(tmp_path, *lines, **columns):
    reader = PairReader(write(tmp_path / "p.jsonl", "\n".join(map(json.dumps, lines))), Columns(**columns))
    return list(reader), reader


@pytest.mark.parametrize(
    "negatives",
    [
        {"negatives": FRUIT},
        {"negative": FRUIT},
        {"negative_1": FRUIT[0], "negative_2": FRUIT[1]},
        {"negative1": FRUIT[0], "negative2": FRUIT[1], "negative3": None},
        {"negative": FRUIT[0], "neg": [FRUIT[1]]},
        {"hard_negatives": FRUIT},
    ],
)
def test_negatives_are_read_under_every_usual_name_in_every_format(tmp_path, negatives):
    assert read_json(tmp_path, PEAR | negatives)[0] == READ
    pd.DataFrame([PEAR | negatives]).to_parquet(tmp_path / "p.parquet")
    assert list(PairReader(tmp_path / "p.parquet")) == READ
    if not any(isinstance(cell, list) for cell in negatives.values()):
        pd.DataFrame([PEAR | negatives]).to_csv(tmp_path / "p.tsv", sep="\t", index=False)
        assert list(PairReader(tmp_path / "p.tsv")) == READ


def test_lists_of_positives_make_a_pair_each(tmp_path):
    """As FlagEmbedding and Tevatron write them."""
    flag = {"query": "find a pear", "pos": ["the tale of a pear", "pears"], "neg": FRUIT, "pos_scores": [1, 2]}
    expected = [*READ, Pair("find a pear", "pears", FRUIT, 1)]
    pairs, reader = read_json(tmp_path, flag)
    assert pairs == expected
    assert reader.unused == ["pos_scores"]
    tevatron = {
        "query_id": "7",
        "query": "find a pear",
        "positive_passages": [
            {"docid": "1", "title": "the tale", "text": "of a pear"},
            {"docid": "2", "text": "pears"},
        ],
        "negative_passages": [{"docid": "3", "title": "", "text": "an apple"}, {"docid": "4", "text": "a plum"}],
    }
    pairs, reader = read_json(tmp_path, tevatron)
    assert pairs == expected
    assert reader.used == {
        "query": ["query"],
        "positive": ["positive_passages"],
        "negatives": ["negative_passages"],
    }
    dpr = {"question": "find a pear", "answers": ["x"], "positive_ctxs": tevatron["positive_passages"]}
    pairs, reader = read_json(tmp_path, dpr | {"hard_negative_ctxs": tevatron["negative_passages"]})
    assert (pairs, reader.unused) == (expected, ["answers"])
    with pytest.raises(StudyError, match=r"line 1: positive_passages is \[\], which holds no text"):
        read_json(tmp_path, tevatron | {"positive_passages": []})


@pytest.mark.parametrize(
    ("query", "positive"),
    [("anchor", "positive"), ("question", "answer"), ("title", "abstract"), ("Question", "Passage"), ("query", "pos")],
)
def test_queries_and_positives_are_known_by_their_usual_names(tmp_path, query, positive):
    pairs, reader = read_json(tmp_path, {query: "find a pear", positive: "the tale of a pear", "id": 7})
    assert pairs == [Pair("find a pear", "the tale of a pear", [], 1)]
    assert (reader.used, reader.unused) == ({"query": [query], "positive": [positive]}, ["id"])


def test_a_list_of_texts_in_a_cell_is_a_list(tmp_path):
    lines = 'query\tpositive\tnegatives\nfind a pear\tthe tale of a pear\t["an apple", "a plum"]\n'
    assert list(PairReader(write(tmp_path / "p.tsv", lines))) == READ
    assert list(PairReader(write(tmp_path / "P.TSV", lines))) == READ


@pytest.mark.parametrize("cell", ["['an apple', 'a plum']", "['an apple' 'a plum']", """['an apple', "a plum's"]"""])
def test_a_list_as_python_shows_it_is_refused_and_no_single_text(tmp_path, cell):
    lines = f"query\tpositive\tnegatives\nfind a pear\tthe tale of a pear\t{cell}\n"
    with pytest.raises(
        StudyError, match=r"line 2: .* is a list as Python shows it, not in JSON: write it by json.dumps"
    ):
        list(PairReader(write(tmp_path / "p.tsv", lines)))


@pytest.mark.parametrize("cell", ['["a"] and ["b"]', "['a'].append('b']", "[x for x in 'ab']"])
def test_a_text_that_begins_as_a_list_stays_a_text(tmp_path, cell):
    (pair,) = PairReader(write(tmp_path / "p.tsv", f"query\tpositive\nfind a pear\t{cell}\n"))
    assert pair.positive == cell


def test_a_label_is_a_grade_so_that_no_wrong_pair_counts_as_right(tmp_path):
    assert [pair.grade for pair in read_json(tmp_path, PEAR | {"label": 0}, PEAR | {"label": 1.0})[0]] == [0, 1]
    with pytest.raises(StudyError, match=r"line 1: label 0\.7 is no whole number"):
        read_json(tmp_path, PEAR | {"label": 0.7})


def test_the_study_may_name_the_columns(tmp_path):
    line = {"asked": "find a pear", "query": "7", "good": "the tale of a pear", "bad": FRUIT[0], "worse": FRUIT[1:]}
    given = {"query": "asked", "positive": "good", "negatives": ("bad", "worse")}
    pairs, reader = read_json(tmp_path, line, **given)
    assert pairs == READ
    assert reader.unused == ["query"]
    with pytest.raises(StudyError, match=r"columns names wors, which p.jsonl has not: its columns are asked, query, g"):
        read_json(tmp_path, line, **given | {"negatives": ("bad", "wors")})
    with pytest.raises(StudyError, match="line 1: no positive among asked"):
        read_json(tmp_path, line, **given | {"positive": "god"})


def test_what_may_be_two_things_is_asked_for(tmp_path):
    line = {"question": "find a pear", "answer": "pears", "passage": "the tale of a pear"}
    with pytest.raises(StudyError, match=r"p.jsonl: answer and passage could each be the positive: say which in the "):
        read_json(tmp_path, line)
    assert read_json(tmp_path, line, positive="passage")[0] == [Pair("find a pear", "the tale of a pear", [], 1)]
    write(tmp_path / "p.tsv", "query\tpositive\tpositive\na\tb\tc\n")
    with pytest.raises(StudyError, match=r"p.tsv, line 1: two columns are called 'positive': rename one"):
        list(PairReader(tmp_path / "p.tsv"))


@pytest.mark.parametrize("header", ["", "query\tpositive\tnegative\n", "Anchor\tPositive\tNegative\r\n"])
def test_triples_are_read_with_or_without_names(tmp_path, header):
    """As MS MARCO has them."""
    lines = "find a pear\tthe tale of a pear\tan apple\nfind a fig\tfigs grow\ta plum\n"
    reader = PairReader(write(tmp_path / "triples.tsv", header + lines))
    first, second = reader
    assert first == Pair("find a pear", "the tale of a pear", ["an apple"], 1)
    assert second.negatives == ["a plum"]
    assert reader.named == bool(header)


@pytest.mark.parametrize("line", ["asked\tfound\twrong", "1185869\t0\t3233725", "query\tdoc\tnegative"])
def test_three_columns_of_anything_else_are_no_triples(tmp_path, line):
    with pytest.raises(StudyError, match=r"line 1: .* names no column .*positive: begin the file with a line such as"):
        list(PairReader(write(tmp_path / "triples.tsv", f"{line}\na b\tc d\te f\n")))


def test_what_was_read_of_a_file_stands_in_the_manifest(new_study, tmp_path):
    pairs = [
        {"anchor": p["query"], "positive": p["positive"], "negative_1": f"wrong {n} one", "source": "web"}
        for n, p in enumerate(many_pairs())
    ]
    write(tmp_path / "params" / "st.jsonl", "\n".join(map(json.dumps, pairs)))
    groups = TRAINING["groups"] | {"hard": 1}
    study = new_study("st", collection={"pairs": "st.jsonl"}, training=TRAINING | {"groups": groups})
    collection = open_collection(study)
    manifest = collection.manifest
    assert manifest["columns"] == {"query": ["anchor"], "positive": ["positive"], "negatives": ["negative_1"]}
    assert manifest["columns_unused"] == ["source"]
    assert manifest["columns_named"] is True
    items, texts = collection.training_queries(), collection.documents()["text"].to_numpy()
    hard = texts[items.hard_rows[:, 0]]
    assert all(text.split()[::2] == ["wrong", "one"] for text in hard)
    assert (items.hard_rows[:, 1:] < 0).all()


def test_whatever_is_read_otherwise_than_written_is_counted(new_study, tmp_path):
    rows = [(p["query"], p["positive"], f"wrong {n}", "2") for n, p in enumerate(many_pairs())]
    rows[9] = (rows[9][0], f'"{rows[9][1]}, and ""more"""', *rows[9][2:])
    rows += [rows[0], (rows[1][0], rows[1][1], "another wrong", ""), (rows[2][0], rows[2][1], rows[2][1], "1")]
    lines = ["\t".join(row) for row in rows] + [f"{rows[3][0].upper()}\t{rows[3][1]} too"]
    write(tmp_path / "params" / "p.tsv", "\n".join(["query\tpositive\tnegative\tgrade", *lines, ""]))
    training = TRAINING | {"groups": TRAINING["groups"] | {"hard": 1}}
    study = new_study("p", collection={"pairs": "p.tsv"}, training=training, evaluation={"depth": 10, "queries": 5})
    manifest = open_collection(study).manifest
    found = changes_of(manifest)
    apart, tests = found.pop(("p.tsv, training", "queries_set_apart")), found.pop(("p/test", "queries_beyond_wanted"))
    assert apart == manifest["queries_by_split"]["dev"]
    assert tests == manifest["queries_by_split"]["test"] - 5
    assert found == {
        ("p.tsv, training", "lines_cut_short"): 1,
        ("p.tsv, training", "lines_quoted"): 1,
        ("p.tsv, training", "lines_without_grade"): 2,
        ("p.tsv, training", "pairs_repeated"): 3,
        ("p.tsv, training", "negatives_repeated"): 1,
        ("p.tsv, training", "negatives_also_positive"): 1,
        ("p.tsv, training", "queries_spelled_otherwise"): 1,
    }


def test_lines_and_positives_of_one_query_may_share_their_negatives(new_study, tmp_path):
    """Every usual layout of triplets does so; it was refused as a run that has a document twice."""
    lines = [{"query": p["query"], "pos": [p["positive"], p["positive"] + " again"], "neg": [f"wrong {n}", f"bad {n}"]}
             for n, p in enumerate(many_pairs())]  # fmt: skip
    write(tmp_path / "params" / "p.jsonl", "\n".join(map(json.dumps, lines)))
    training = TRAINING | {"groups": TRAINING["groups"] | {"hard": 2}}
    collection = open_collection(new_study("p", collection={"pairs": "p.jsonl"}, training=training))
    items, texts = collection.training_queries(), collection.documents()["text"].to_numpy()
    assert len(items.query_rows) == 2 * collection.manifest["queries_by_split"]["train"]
    assert all({text.split()[0] for text in texts[hard[hard >= 0]]} == {"wrong", "bad"} for hard in items.hard_rows)
    assert changes_of(collection.manifest)["p.jsonl, training", "negatives_repeated"] == 2 * len(lines)


def test_columns_that_are_not_read_are_named_and_counted(new_study, tmp_path):
    pairs = [p | {"source": "web", "url": "here"} for p in many_pairs()]
    write(tmp_path / "params" / "p.jsonl", "\n".join(map(json.dumps, pairs)))
    study = new_study("p", collection={"pairs": "p.jsonl"}, training=TRAINING)
    said = [row for row in open_collection(study).manifest["changes"] if "columns" in row["what"]]
    assert said == [{"what": "columns were not used: source, url", "count": 2, "where": "p.jsonl, training"}]


def test_beirs_layout_is_a_test(new_study, tmp_path):
    folder = tmp_path / "params"
    docs = [{"_id": f"d{n}", "title": "", "text": f"the tale of {tale(n)}", "metadata": {}} for n in range(60)]
    write(folder / "corpus.jsonl", "\n".join(map(json.dumps, docs)))
    write(folder / "queries.jsonl", "\n".join(json.dumps({"_id": f"q{n}", "text": tale(n)}) for n in range(12)))
    (folder / "qrels").mkdir()
    rows = "".join(f"q{n}\td{n}\t1\n" for n in range(12))
    write(folder / "qrels" / "test.tsv", f"query-id\tcorpus-id\tscore\n{rows}")
    write(folder / "train.tsv.gz", "".join(f"find {tale(n)}\tthe tale of {tale(n)}\ta wrong one\n" for n in range(300)))
    test = {"documents": "corpus.jsonl", "queries": "queries.jsonl", "judgments": "qrels/test.tsv"}
    groups = TRAINING["groups"] | {"hard": 1}
    study = new_study(
        "beir",
        collection={"pairs": "train.tsv.gz"},
        training=TRAINING | {"groups": groups},
        evaluation={"depth": 10, "tests": {"mine": test}},
    )
    collection = open_collection(study)
    assert collection.manifest["columns_named"] is False
    assert collection.manifest["tests"]["mine"]["test_queries"] == 12
    first = collection.test_candidates("mine").query("rank == 1").set_index("query_id")["document_id"]
    assert first[["q6", "q7", "q8", "q9"]].tolist() == ["d6", "d7", "d8", "d9"]


def test_a_file_that_is_cut_is_refused(tmp_path):
    whole = gzip.compress("\n".join([json.dumps(PEAR)] * 50).encode())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"cut\.jsonl\.gz cannot be read"):
        list(PairReader(tmp_path / "cut.jsonl.gz"))


TWICE = [{"query": q, "positive": f"{tale(n)} is {k}"} for n in range(200) for k, q in enumerate(
    (f"What is {tale(n).title()}?", f"what is {tale(n)}"))]  # fmt: skip


def test_one_question_in_two_spellings_is_one_query(new_study, tmp_path):
    """Neither a split nor a negative parts them, though the tokenizer tells only cases apart."""
    write(tmp_path / "params" / "twice.jsonl", "\n".join(map(json.dumps, TWICE)))
    study = new_study("twice", collection={"pairs": "twice.jsonl"}, training=TRAINING)
    table = pd.read_parquet(open_source(study, study.collection, "train").folder / "judgments.parquet")
    assert table.groupby("query_id").size().eq(2).all()
    collection = open_collection(study)
    manifest, queries = collection.manifest, collection.queries()
    assert manifest["queries_spelled_otherwise"] == 200
    assert queries["text"].str.startswith("What is").all()  # the first spelling
    assert manifest["tests"]["twice/test"]["queries_also_trained_on"] == 0
    folded = queries.assign(text=queries["text"].str.casefold()).groupby("text")["test"].nunique()
    assert folded.eq(1).all()
    items, texts = collection.training_queries(), collection.documents()["text"].to_numpy()
    for query, hard in zip(items.query_rows, items.hard_rows, strict=True):
        told = queries["text"][query].removeprefix("What is ").removesuffix("?").lower()
        assert not {f"{told} is 0", f"{told} is 1"} & set(texts[hard[hard >= 0]])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '{"query": "q", "Query ": "p", "positive": "d"}',
            "'query' and 'Query ', which only case or blanks tell apart",
        ),
        ('{"query": "q\\ud800", "positive": "d"}', "line 1: JSON with half of a character"),
        ('{"query": ' + "[" * 5000, "line 1: JSON that nests lists or objects too deeply"),
    ],
)
def test_what_random_lines_found_is_refused(tmp_path, line, said):
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(StudyError, match=said):
        list(PairReader(path))
