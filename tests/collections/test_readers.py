"""Files of one's own: pairs, or documents, queries, judgments and a run."""

import gzip
import json

import pandas as pd
import pytest

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.readers import Pair, read_judgments, read_pairs, read_run, read_texts
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


@pytest.mark.parametrize(
    ("name", "text"), [("p.jsonl", JSON_LINES), ("p.jsonl.gz", JSON_LINES), ("p.tsv", TABS), ("p.tsv.gz", TABS)]
)
def test_pairs_are_read_from_every_kind_of_file(tmp_path, name, text):
    assert list(read_pairs(write(tmp_path / name, text))) == PAIRS


def test_pairs_are_read_from_parquet(tmp_path):
    pd.DataFrame(PAIRS).to_parquet(tmp_path / "p.parquet")
    assert list(read_pairs(tmp_path / "p.parquet")) == PAIRS


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("p.jsonl", '{"query": "a", "positive": "b"}\n{"query": "a"\n\nx\n', "p.jsonl has 2 lines that cannot be used, "
         "the first line 2: no JSON (expecting ',' delimiter at character 13); correct or remove them."),
        ("p.jsonl", '{"question": "a", "positive": "b"}\n', "1 line that cannot be used, the first line 1: no query "
         "among question, positive; correct or remove it."),
        ("p.jsonl", '{"query": "a", "positive": "b"}\n{"query": " ", "positive": "b"}\n', "line 2: query is ' '"),
        ("p.jsonl", '{"query": "a", "positive": "b", "grade": 1.5}', "line 1: grade 1.5 is no whole number"),
        ("p.jsonl", '{"query": "a", "positive": "b", "negatives": [1]}', "line 1: negatives are no texts"),
        ("p.jsonl", '["a", "b"]', "line 1: JSON, but no object with field names"),
        ("p.tsv", "question\tanswer\na\tb\n", "line 1: 'question\\tanswer' names no column query and no column "),
        ("p.tsv", "query\tpositive\na\tb\na\tb\tc\n", "line 3: 3 cells, but there are 2 columns"),
        ("p.tsv", "query\tpositive\na\tb\na\n", "line 3: no positive among query"),
        ("p.csv", "query,positive\n", "p.csv is no file of pairs: use .jsonl, .tsv"),
    ],
)  # fmt: skip
def test_bad_lines_are_counted_and_the_first_is_shown(tmp_path, name, text, sentence):
    with pytest.raises(StudyError) as caught:
        list(read_pairs(write(tmp_path / name, text)))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_and_files_that_are_cut_are_refused(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'{"query": "a", "positive": "b"}\n{"query": "\xff"}\n')
    with pytest.raises(StudyError, match="line 2: no UTF-8"):
        list(read_pairs(tmp_path / "p.jsonl"))
    whole = gzip.compress(JSON_LINES.encode() * 50)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StudyError, match=r"cut\.jsonl\.gz cannot be read"):
        list(read_pairs(tmp_path / "cut.jsonl.gz"))
    (tmp_path / "p.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(StudyError, match=r"p\.parquet cannot be read"):
        list(read_pairs(tmp_path / "p.parquet"))


@pytest.mark.parametrize(
    ("read", "text", "sentence"),
    [
        (read_texts, "d1\tan apple\nno tab here\nd3\t\n", "2 lines .* line 2: 'no tab here' is not id<TAB>text"),
        (read_texts, "d 1\tan apple\n", "line 1: id 'd 1' is empty or has spaces, which TREC's files cannot hold"),
        (read_judgments, "q 0 d 1\nq 0 d\n", "line 2: 3 fields instead of four: query, iteration, document, grade"),
        (read_judgments, "q 0 d good\n", "line 1: grade 'good' is no whole number"),
        (read_run, "q Q0 d 1 high run\n", "line 1: score 'high' is no number"),
        (read_run, "q Q0 d 1 nan run\n", "line 1: score 'nan' is no number"),
        (read_run, "q\td\t1\n", "line 1: 3 fields instead of six"),
    ],
)
def test_bad_lines_of_other_files_too(tmp_path, read, text, sentence):
    with pytest.raises(StudyError, match=sentence):
        list(read(write(tmp_path / "file.txt", text)))


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


def test_ids_that_repeat_are_refused(new_study, trec_files, tmp_path):
    write(tmp_path / "params" / "data" / "docs.jsonl.gz", '{"id": "d1", "text": "a"}\n{"id": "d1", "text": "b"}\n')
    study = new_study(evaluation={"depth": 10, "tests": {"mine": trec_files}})
    with pytest.raises(StudyError, match=r"docs\.jsonl\.gz has 1 ids that were there before, the first 'd1'"):
        open_collection(study)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"collection": {"pair": "x"}}, r"collection = .*: write docstrings, \{ir_datasets: id\}"),
        ({"collection": "docstring"}, "collection = 'docstring': write docstrings"),
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
