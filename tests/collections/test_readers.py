"""Files of one's own: pairs, or documents, queries, judgments and a run."""

import gzip
import json

import pandas as pd
import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.notes import CHANGES
from rankscale_utils.collections.pair_reader import Pair, PairReader
from rankscale_utils.collections.readers import RunReader, read_judgments, read_texts
from rankscale_utils.errors import StudyError
from rankscale_utils.evaluation.contract import contract
from rankscale_utils.evaluation.metrics import open_test

WORDS = ["apple", "pear", "plum", "cherry", "lemon", "peach", "melon", "grape", "quince", "fig"]
GROUPS = {"hard": 2, "random": 1, "hard_depth": 5, "queries_per_step": 4}
TRAINING = {"exposures": [240], "groups": GROUPS, "cooldown": 0.25, "warmup_steps": 5}


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


PAIRS = [Pair("find a pear", "the tale of a pear", ["an apple", "a plum"], 1), Pair("a fig", "figs grow", [], 2)]
JSON_LINES = "\n".join(
    [
        json.dumps({"query": "find a pear", "positive": "the tale of a pear", "negatives": ["an apple", "a plum"]}),
        "",
        json.dumps({"query": "a fig", "positive": "figs grow", "grade": 2, "id": 7}),
    ]
)
TABS = (
    "query\tpositive\tnegative_1\tnegative_2\tgrade\n"
    "find a pear\tthe tale of a pear\tan apple\ta plum\t\r\n"
    "a fig\tfigs grow\t\t\t2\n"
)
COMMAS = (
    'query,positive,negatives,grade\r\n"find a pear",the tale of a pear,"[""an apple"", ""a plum""]",\r\n'
    ",,,\r\na fig,figs grow,,2\r\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [("p.jsonl", JSON_LINES), ("p.jsonl.gz", JSON_LINES), ("p.tsv", TABS), ("p.tsv.gz", TABS),
     ("p.csv", COMMAS), ("P.CSV.gz", COMMAS)],
)  # fmt: skip
def test_pairs_are_read_from_every_kind_of_file(tmp_path, name, text):
    assert list(PairReader(write(tmp_path / name, text))) == PAIRS


def test_a_cell_of_a_csv_may_be_of_many_lines(tmp_path):
    table = pd.DataFrame({"query": ['what is "x", y?', "a fig"], "positive": ["one\n\ntwo", "long " * 50_000]})
    table.to_csv(tmp_path / "p.csv", index=False)
    assert [(pair.query, pair.positive) for pair in PairReader(tmp_path / "p.csv")] == list(
        table.itertuples(index=False)
    )
    write(tmp_path / "p.csv", 'query,positive,grade\na,"b\n\nc",1\nd,e,high\n')
    with pytest.raises(StudyError, match="the first line 5: grade 'high' is no whole number"):
        list(PairReader(tmp_path / "p.csv"))


def test_pairs_are_read_from_parquet(tmp_path):
    pd.DataFrame(PAIRS).to_parquet(tmp_path / "p.parquet")
    assert list(PairReader(tmp_path / "p.parquet")) == PAIRS


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("p.jsonl", '{"query": "a", "positive": "b"}\n{"query": "a"\n\nx\n', "p.jsonl has 2 lines that cannot be used, "
         "the first line 2: no JSON (expecting ',' delimiter at character 13); correct or remove them."),
        ("p.jsonl", '{"asked": "a", "positive": "b"}\n', "1 line that cannot be used, the first line 1: no query "
         "among asked, positive (name the columns in the study, such as columns: {query: NAME"),
        ("p.jsonl", '{"query": "a", "positive": "b"}\n{"query": " ", "positive": "b"}\n', "line 2: query is ' '"),
        ("p.jsonl", '{"query": "a", "positive": "b", "grade": 1.5}', "line 1: grade 1.5 is no whole number"),
        ("p.jsonl", '{"query": "a", "positive": "b", "negatives": [1]}', "line 1: negatives holds [1], which is no te"),
        ("p.jsonl", '["a", "b"]', "line 1: JSON, but no object with field names"),
        ("p.tsv", "asked\tfound\na\tb\n", "line 1: 'asked\\tfound' names no column query and no column "),
        ("p.tsv", "query\tpositive\na\tb\na\tb\tc\n", "line 3: 3 cells, but there are 2 columns"),
        ("p.tsv", "query\tpositive\na\tb\na\n", "line 3: positive is '', which holds no text"),
        ("p.xml", "<query>", "p.xml is no file of pairs: use .jsonl, .csv, .tsv"),
        ("p.csv", "query;positive\n", r"p.csv, line 1: 'query;positive' names no column query and no column positive: "
         "begin the file with a line such as query,positive"),
        ("p.csv", 'query,positive\na,"b\n', "p.csv, line 2: unexpected end of data; correct the quotation marks"),
    ],
)  # fmt: skip
def test_bad_lines_are_counted_and_the_first_is_shown(tmp_path, name, text, sentence):
    with pytest.raises(StudyError) as caught:
        list(PairReader(write(tmp_path / name, text)))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_files_that_are_cut_are_refused(tmp_path):
    whole = gzip.compress(JSON_LINES.encode() * 50)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"cut\.jsonl\.gz cannot be read"):
        list(PairReader(tmp_path / "cut.jsonl.gz"))
    (tmp_path / "p.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(StudyError, match=r"p\.parquet cannot be read"):
        list(PairReader(tmp_path / "p.parquet"))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("q1\tein Apfel\nq2\tÄpfel\n".encode("latin-1"), "is no UTF-8: on line 2 stands the byte C4, which would be "
         "'Ä' in Latin-1: convert it, such as with `iconv -f WINDOWS-1252 -t UTF-8`."),
        ("q1\tein Apfel\n".encode("utf-16"), "is UTF-16: convert it, such as with `iconv -f UTF-16 -t UTF-8`."),
        ("q1\tein Apfel\n".encode("utf-16-be"), "has a NUL byte on line 1, so it is UTF-16 or no text"),
        (gzip.compress(b"q1\tapple\n", mtime=0), "is gzip: let its name end in .gz, or unpack it."),
        (b"PK\x03\x04\x14\x00\x06\x00", "is a ZIP archive or a spreadsheet: unpack it, or save it as text."),
    ],
)  # fmt: skip
def test_a_file_of_another_encoding_is_named(tmp_path, data, sentence):
    (tmp_path / "queries.tsv").write_bytes(data)
    with pytest.raises(StudyError) as caught:
        list(read_texts(tmp_path / "queries.tsv"))
    assert f"queries.tsv {sentence}" in str(caught.value)


def test_fields_are_parted_by_ascii_blanks_alone(tmp_path):
    judged = write(tmp_path / "judged.txt", "q\u00a01 0  d\u20281\t1\nNA 0 None -1\n")
    assert read_judgments(judged).to_numpy().tolist() == [["q\u00a01", "d\u20281", 1], ["NA", "None", -1]]
    run = write(tmp_path / "a.run", "q\u00a01 Q0 d\u20281 1 2.5 my-run\n")
    assert list(RunReader(run)) == [("q\u00a01", "d\u20281", 2.5)]
    assert list(read_texts(write(tmp_path / "q.tsv", "q\u00a01\tan apple\n"))) == [("q\u00a01", "an apple")]


BEIR_QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td7\t2\n"
JSON_QRELS = '{"query-id": "q1", "corpus-id": "d1", "score": 1.0}\n{"query-id": "q2", "corpus-id": "d7", "score": 2}\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test.tsv", BEIR_QRELS),
        ("test.tsv.gz", BEIR_QRELS),
        ("qrels.txt", "q1 0 d1 1\r\nq2 0 d7 2\r\n"),
        ("named.txt", "qid iter docid rel\nq1 0 d1 1\nq2 0 d7 2\n"),
        ("pyterrier.txt", "qid docno label\nq1 d1 1\nq2 d7 2\n"),
        ("test.jsonl", JSON_QRELS),
    ],
)  # fmt: skip
def test_judgments_are_read_as_trec_and_beir_write_them(tmp_path, name, text):
    table = read_judgments(write(tmp_path / name, text))
    assert table.to_numpy().tolist() == [["q1", "d1", 1], ["q2", "d7", 2]]


def test_documents_may_have_a_title_alone_or_nothing(tmp_path):
    lines = [
        {"_id": "d1", "title": "On pears", "text": ""},
        {"_id": "d2", "title": "", "text": "apples"},
        {"_id": "d3", "title": "", "text": " ", "metadata": {}},
        {"_id": "d4", "title": "On figs", "text": None},
        {"id": 5, "contents": "plums"},
    ]
    file = write(tmp_path / "corpus.jsonl", "\n".join(map(json.dumps, lines)))
    expected = [("d1", "On pears"), ("d2", "apples"), ("d3", ""), ("d4", "On figs"), ("5", "plums")]
    assert list(read_texts(file, empty=True)) == expected
    with pytest.raises(StudyError, match="1 line that cannot be used, the first line 3: 'd3' has an empty text"):
        list(read_texts(file))
    tabs = write(tmp_path / "corpus.tsv", "id\ttext\ttitle\n1\tapples grow\tApples\n2\t\tPears\n3\t\t\n")
    assert list(read_texts(tabs, empty=True)) == [("1", "Apples apples grow"), ("2", "Pears"), ("3", "")]


def tale(number):
    return " ".join(WORDS[int(digit)] for digit in f"{number:03d}")


def many_pairs(count=300, **more):
    return [{"query": f"find {tale(n)}", "positive": f"the tale of {tale(n)}"} | more for n in range(count)]


@pytest.fixture
def pairs_study(new_study, tmp_path):
    """Return what writes a study of these pairs."""

    def make(pairs, name="mine", **changes):
        write(tmp_path / "params" / f"{name}.jsonl", "\n".join(map(json.dumps, pairs)))
        return new_study(name, **{"collection": {"pairs": f"{name}.jsonl"}, "training": TRAINING} | changes)

    return make


def test_pairs_train_and_test_on_queries_of_their_own(pairs_study):
    study = pairs_study([*many_pairs(), {"query": "find " + tale(1), "positive": "a second tale", "grade": 2}])
    collection = open_collection(study)
    queries, documents = collection.queries(), collection.documents()
    assert collection.tests == ["mine/test"]
    by_test = queries.groupby("test")["text"].agg(set)
    assert not by_test[""] & by_test["mine/test"]
    assert len(by_test[""]) + len(by_test["mine/test"]) < 300  # a tenth is never used
    assert queries["text"].is_unique
    assert documents["text"].is_unique
    items, texts = collection.training_queries(), documents["text"].to_numpy()
    assert set(texts[items.document_rows]) == set(texts[items.positive_rows])
    for query, positive, hard in zip(items.query_rows, items.positive_rows, items.hard_rows, strict=True):
        told = queries["text"][query].removeprefix("find ")
        assert texts[positive] in (f"the tale of {told}", "a second tale")
        assert f"the tale of {told}" not in texts[hard]
    table = open_test(study, collection).candidates
    assert table.groupby("query_id")["positive"].sum().eq(1).all()
    assert "mine.jsonl" in collection.manifest["collection"]
    assert contract(study, collection, "mine/test")["judgments"].startswith("graded (1, 2)")


def test_a_file_that_grows_keeps_its_splits(pairs_study):
    fewer, more = (
        open_collection(pairs_study(many_pairs(count), name)).queries().set_index("text")["test"].str.len()
        for name, count in (("few", 300), ("more", 400))
    )
    shared = fewer.index.intersection(more.index)
    assert ((fewer[shared] > 0) == (more[shared] > 0)).all()


def test_negatives_of_the_file_are_the_hard_ones(pairs_study):
    pairs = [pair | {"negatives": [f"wrong {n} one", f"wrong {n} two"]} for n, pair in enumerate(many_pairs())]
    collection = open_collection(pairs_study(pairs))
    items, texts = collection.training_queries(), collection.documents()["text"].to_numpy()
    for row in range(0, len(items.query_rows), 10):
        hard = items.hard_rows[row]
        assert [text.split()[::2] for text in texts[hard[hard >= 0]]] == [["wrong", "one"], ["wrong", "two"]]
    with pytest.raises(StudyError, match=r"only 0 training items, and 2.. more with fewer than hard = 3 negatives"):
        open_collection(pairs_study(pairs, training=TRAINING | {"groups": GROUPS | {"hard": 3}}))


def test_too_few_pairs_are_refused(pairs_study):
    with pytest.raises(StudyError, match=r"has 1 queries, none of which falls into .*: bring more pairs"):
        open_collection(pairs_study(many_pairs(1)))


@pytest.fixture
def trec_files(tmp_path):
    """Write documents, queries, judgments and a run of three queries beside the studies."""
    folder = tmp_path / "params" / "data"
    folder.mkdir()
    documents = "".join(
        json.dumps({"id": f"d{n}", "title": "On", "text": f"the tale of {tale(n)}"}) + "\n" for n in range(60)
    )
    write(folder / "docs.jsonl.gz", documents)
    write(folder / "asked.tsv", "".join(f"q{n}\tfind {tale(n)}\n" for n in range(12)))
    write(folder / "judged.txt", "".join(f"q{n} 0 d{n} 2\nq{n} 0 d{n + 1} 1\nq{n} 0 d{n + 2} 0\n" for n in range(10)))
    run = [f"q{n} Q0 d{(n + k) % 60} {k + 1} {30 - k} mine\n" for n in range(10) for k in range(12)]
    write(folder / "run.txt", "".join(run))
    return {f"{name}s": f"data/{file}" for name, file in zip(
        ("document", "querie", "judgment"), ("docs.jsonl.gz", "asked.tsv", "judged.txt"), strict=True)}  # fmt: skip


def test_documents_queries_judgments_and_a_run(new_study, trec_files):
    given = trec_files | {"candidates": "data/run.txt"}
    study = new_study(collection=given, training=TRAINING, evaluation={"depth": 10, "tests": {"mine": given}})
    collection = open_collection(study)
    items, documents = collection.training_queries(), collection.documents()
    assert len(items.query_rows) == 20
    assert sorted(items.grades) == [1] * 10 + [2] * 10
    assert documents.set_index("document_id")["text"]["d3"] == f"On the tale of {tale(3)}"
    test = open_test(study, collection)
    assert test.candidates["query_id"].nunique() == 10  # two have no judgments
    assert len(test.judgments) == 30
    first = test.candidates[test.candidates["query_id"] == "q4"].query("retrieved")
    assert first["document_id"].tolist() == [f"d{4 + k}" for k in range(10)]
    assert contract(study, collection, "mine")["judgments"].startswith("graded (0, 1, 2), 3 a query")
    assert "run.txt" in contract(study, collection, "mine")["candidates"]


def changes_of(manifest):
    """Return how many were changed, by where and the key of what was done."""
    keys = {what: key for key, what in CHANGES.items()}
    return {(row["where"], keys[row["what"]]): row["count"] for row in manifest["changes"]}


def test_whatever_is_passed_over_or_filled_in_is_counted(new_study, trec_files, tmp_path):
    folder = tmp_path / "params" / "data"
    write(folder / "judged.txt", (folder / "judged.txt").read_text() + "q1 0 d1 1\nq99 0 d1 1\nq3 0 gone 1\n")
    run = (folder / "run.txt").read_text().replace("q4 Q0", "q77 Q0")
    write(folder / "run.txt", run.replace("q5 Q0 d6 2 29", "q5 Q0 d6 2 31").replace("q6 Q0 d7 2 29", "q6 Q0 d7 2 30"))
    level = [
        [*line.split()[:4], "1", "t"] if line.startswith("q8 ") else line.split()
        for line in (folder / "run.txt").read_text().splitlines()
    ]
    write(folder / "run.txt", "\n".join(map(" ".join, level)))
    given = trec_files | {"candidates": "data/run.txt"}
    study = new_study(collection=given, training=TRAINING, evaluation={"depth": 10, "tests": {"mine": given}})
    manifest = open_collection(study).manifest
    assert changes_of(manifest) == {
        ("asked, training", "judgments_repeated"): 1,  # q1 d1, as 2 and as 1
        ("asked, training", "judgments_not_relevant"): 10,  # of grade 0
        ("asked, training", "judgments_without_query"): 1,  # q99
        ("asked, training", "queries_unjudged"): 2,  # q10 and q11
        ("asked, training", "queries_of_the_run_unasked"): 1,  # q77
        ("asked, training", "queries_ranked_otherwise"): 1,  # q5, and not q6, whose first two scores are equal
        ("asked, training", "queries_tied"): 1,  # q8
        ("asked, training", "without_text"): 1,  # `gone`
        ("asked, training", "too_few_negatives"): 2,  # q4's, which the run lacks
        ("mine", "judgments_repeated"): 1,
        ("mine", "judgments_without_query"): 1,
        ("mine", "queries_unjudged"): 2,
        ("mine", "queries_of_the_run_unasked"): 1,
        ("mine", "queries_ranked_otherwise"): 1,
        ("mine", "queries_tied"): 1,
        ("mine", "queries_without_candidates"): 1,  # q4
        ("mine", "queries_filled_up"): 10,  # of ten candidates two are relevant
    }


def test_a_text_with_more_cells_than_names_is_refused(tmp_path):
    """What stands behind a further tab was dropped without a word."""
    path = write(tmp_path / "docs.tsv", "id\ttext\nd1\tone\nd2\ttwo\tand more\n")
    with pytest.raises(StudyError, match=r"docs\.tsv has 1 line that cannot be used, the first line 3: 3 cells, but"):
        list(read_texts(path))
    named = write(tmp_path / "docs.tsv", "docno\ttitle\ttext\nd1\tOn pears\tone\n")
    assert list(read_texts(named)) == [("d1", "On pears one")]
    unnamed = write(tmp_path / "docs.txt", "d1\tone\nd2\ttwo\tand more\n")
    assert list(read_texts(unnamed)) == [("d1", "one"), ("d2", "two\tand more")]


@pytest.mark.parametrize(
    ("name", "content", "read", "said"),
    [
        ("docs.jsonl", '{"id": "d1", "text": "a", "text": "b"}', read_texts, "line 1: JSON that has the field 'text'"),
        ("docs.jsonl", '{"pid": "p1", "docid": "d1", "text": "a"}', read_texts, "docid and pid could each be the id"),
        ("docs.jsonl", '{"id": "d1", "text": "a", "contents": "b"}', read_texts, "text and contents could each be"),
        ("docs.jsonl", '{"id": 1.0, "text": "a"}', read_texts, "id 1.0 is no text and no whole number"),
        ("docs.jsonl", '{"id": true, "text": "a"}', read_texts, "id True is no text and no whole number"),
        ("docs.tsv", "id\ttext\ttext\nd1\ta\tb\n", read_texts, "line 1: two columns are called 'text': rename one"),
        ("docs.tsv", "number\ttext\nd1\ta\n", read_texts, r"docs.tsv, line 1: 'number.ttext' names a text and no id"),
        ("test.tsv", "query-id\tcorpus-id\tscore\tscore\nq\td\t1\t0\n", read_judgments, "two columns are called"),
        ("test.tsv", "qid\tdocid\tscore\tlabel\nq\td\t9\t1\n", read_judgments, "score and label could each be"),
    ],
)  # fmt: skip
def test_what_may_be_read_in_two_ways_is_refused(tmp_path, name, content, read, said):
    """The last, or the first, was taken without a word."""
    with pytest.raises(StudyError, match=said):
        list(read(write(tmp_path / name, content)))


def test_two_names_of_one_value_are_one(tmp_path):
    path = write(tmp_path / "docs.jsonl", '{"id": 7, "_id": "7", "text": "a", "contents": "a"}')
    assert list(read_texts(path)) == [("7", "a")]


def test_own_documents_are_searched_with_bm25(new_study, trec_files):
    study = new_study(collection=trec_files, training=TRAINING, evaluation={"depth": 10, "tests": {"mine": trec_files}})
    test = open_test(study, open_collection(study))
    first = test.candidates[test.candidates["rank"] == 1].set_index("query_id")["document_id"]
    assert first["q7"] == "d7"


def test_a_candidate_that_the_documents_lack_is_refused(new_study, trec_files, tmp_path):
    write(tmp_path / "params" / "data" / "run.txt", "q1 Q0 d1 1 2 x\nq1 Q0 nowhere 2 1 x\n")
    given = trec_files | {"candidates": "data/run.txt"}
    study = new_study(collection="docstrings", evaluation={"depth": 10, "tests": {"mine": given}})
    with pytest.raises(StudyError, match=r"asked: the candidates name document nowhere, which the collection lacks"):
        open_collection(study)


def test_documents_without_a_word_are_kept_and_counted(new_study, trec_files, tmp_path):
    """BEIR's TREC-COVID has titles alone, its FiQA some with neither."""
    docs = [{"_id": f"d{n}", "title": f"On {tale(n)}", "text": ""} for n in range(60)] + [{"_id": "none", "text": ""}]
    write(tmp_path / "params" / "data" / "docs.jsonl.gz", "\n".join(map(json.dumps, docs)))
    study = new_study(evaluation={"depth": 10, "tests": {"mine": trec_files}})
    collection = open_collection(study)
    assert collection.manifest["tests"]["mine"]["empty_documents"] == 1
    test = open_test(study, collection)
    first = test.candidates[test.candidates["rank"] == 1].set_index("query_id")["document_id"]
    assert first[["q6", "q7", "q8", "q9"]].tolist() == ["d6", "d7", "d8", "d9"]
    assert f"On {tale(7)}" in set(collection.documents()["text"])


def test_ids_that_repeat_are_refused(new_study, trec_files, tmp_path):
    write(tmp_path / "params" / "data" / "docs.jsonl.gz", '{"id": "d1", "text": "a"}\n{"id": "d1", "text": "b"}\n')
    study = new_study(evaluation={"depth": 10, "tests": {"mine": trec_files}})
    with pytest.raises(StudyError, match=r"docs\.jsonl\.gz has 1 ids that were there before, the first 'd1'"):
        open_collection(study)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"collection": {"pair": "x"}}, r"collection = .*: write one of docstrings, \{ir_datasets: id\}"),
        ({"collection": {"pairs": "p.tsv", "ir_datasets": "x"}}, "collection = .*: write one of docstrings"),
        ({"collection": "docstring"}, "collection = 'docstring': write one of docstrings"),
        ({"collection": {"ir_datasets": "x", "candidate": "y"}}, "collection.candidate is not a field of a study, did "
         "you mean candidates"),
        ({"collection": {"ir_datasets": "beir/nfcorpus/train"}}, "has no test split of its own: add tests, such as"),
        ({"evaluation": {"tests": {"a/b": "docstrings"}}}, "evaluation.tests.a/b .*: use letters"),
    ],
)  # fmt: skip
def test_a_collection_that_cannot_be_is_refused_before_any_work(new_study, changes, sentence):
    with pytest.raises(StudyError, match=sentence) as caught:
        new_study(**changes)
    assert "[" not in str(caught.value).split(":")[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"collection": {"pairs": "absent.tsv"}},
            "tiny.yaml: collection names /.*/absent.tsv, which is no file: put it there",
        ),
        (
            {"evaluation": {"tests": {"x": {"ir_datasets": "y", "candidates": "no.run"}}}},
            "tests.x names /.*/no.run, which is no file",
        ),
    ],
)
def test_a_file_that_is_absent_is_named_before_any_work(new_study, changes, sentence, tmp_path):
    (tmp_path / "cache").unlink()
    with pytest.raises(StudyError, match=sentence):
        open_collection(new_study(**changes))
    assert not (tmp_path / "cache").exists()


def test_a_teacher_and_random_negatives_exclude_each_other(new_study, trec_files):
    given = trec_files | {"teacher": "data/run.txt"}
    with pytest.raises(StudyError, match=r"no teacher scores random negatives: set groups\.random = 0"):
        new_study(collection=given, training=TRAINING, evaluation={"depth": 10, "tests": {"mine": trec_files}})
    with pytest.raises(StudyError, match=r"tests\.mine\.teacher: only training has a teacher"):
        new_study(evaluation={"depth": 10, "tests": {"mine": given}})


def test_negatives_that_lines_of_one_query_bring_keep_the_files_order(pairs_study):
    """They were ordered by the ids of their documents, as every line's first negative had the same rank."""
    lines = [pair | {"negatives": [f"{word} {n}"]} for n, pair in enumerate(many_pairs()) for word in ("one", "two")]
    collection = open_collection(pairs_study(lines, training=TRAINING | {"groups": GROUPS | {"hard": 2}}))
    items, texts = collection.training_queries(), collection.documents()["text"].to_numpy()
    assert all([text.split()[0] for text in texts[hard[hard >= 0]]] == ["one", "two"] for hard in items.hard_rows)
    assert "queries_tied" not in {key for _, key in changes_of(collection.manifest)}
