import itertools
import json

import pandas as pd
import pytest

from rankscale_utils.collections.annotation import inverse_cloze, nested_order, read_generated
from rankscale_utils.errors import StudyError

DOCUMENTS = pd.DataFrame(
    {
        "document_id": ["d0", "d1", "d2", "d3"],
        "text": [
            "Return the sorted list of names. The order is that of the alphabet; a name occurs but once. Never fails!",
            "One sentence alone has nothing left that it could ask for.",
            "Too short. So too. And so.",
            "Two are enough for one pair. The other one is then the document.",
        ],
    }
)
PAIRS = pd.DataFrame({"query_id": [f"q{n}" for n in range(200)], "document_id": [f"d{n % 50}" for n in range(200)]})


def subset(pairs, count, **settings):
    """The subset of so many pairs."""
    return set(pairs.iloc[nested_order(pairs, [count], **settings)[:count]].itertuples(index=False, name=None))


def test_subsets_are_nested_and_of_the_size_asked_for():
    order = nested_order(PAIRS, [10, 50, 51, 200])
    assert sorted(order) == list(range(200))
    subsets = [subset(PAIRS, count) for count in (10, 50, 51, 200)]
    assert [len(some) for some in subsets] == [10, 50, 51, 200]
    for smaller, larger in itertools.pairwise(subsets):
        assert smaller < larger


def test_a_subset_depends_on_neither_order_nor_other_counts():
    expected = subset(PAIRS, 30)
    assert subset(PAIRS.sample(frac=1, random_state=0), 30) == expected
    assert subset(PAIRS, 30, seed=1) != expected
    assert expected != set(PAIRS[:30].itertuples(index=False, name=None))


def test_subsets_of_generated_pairs_are_told_apart_by_their_text():
    pairs = pd.DataFrame({"document_id": "d0", "query": [f"words {n}" for n in range(20)]})
    assert subset(pairs, 5) < subset(pairs, 15)


@pytest.mark.parametrize("count", [0, 201])
def test_more_pairs_than_there_are_is_one_sentence(count):
    with pytest.raises(StudyError, match=r"there are 200 annotated pairs, ask for 1 to 200"):
        nested_order(PAIRS, [10, count])


def test_inverse_cloze_takes_a_sentence_out_of_its_document():
    pairs = inverse_cloze(DOCUMENTS, kept=0.0)
    assert pairs["document_id"].tolist() == ["d0", "d3"]  # the others have no sentence to spare, or only short ones
    texts = DOCUMENTS.set_index("document_id")["text"]
    for pair in pairs.itertuples():
        assert pair.query in texts[pair.document_id]
        assert pair.query not in pair.text
        assert sorted(f"{pair.query} {pair.text}".split()) == sorted(texts[pair.document_id].split())
        assert len(pair.query.split()) >= 4


def test_a_share_of_the_documents_keeps_its_sentence():
    many = pd.DataFrame({"document_id": [f"d{n}" for n in range(400)], "text": DOCUMENTS["text"][0]})
    pairs = inverse_cloze(many, kept=0.25)
    assert 0.2 < (pairs["text"] == DOCUMENTS["text"][0]).mean() < 0.3
    assert pairs["query"].nunique() == 3  # a semicolon ends a sentence, and "Never fails!" is too short to ask
    assert inverse_cloze(many).equals(inverse_cloze(many))
    assert not inverse_cloze(many).equals(inverse_cloze(many, seed=1))


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return path


def test_a_users_queries_are_read_from_lines_of_json(tmp_path):
    lines = (
        {"document_id": "d1", "query": "what is alone", "model": "any"},
        "",
        {"document_id": "d0", "query": "noms triés"},
    )
    table = read_generated(write(tmp_path / "q.jsonl", *lines), DOCUMENTS)
    assert table.to_numpy().tolist() == [["d1", "what is alone"], ["d0", "noms triés"]]
    assert table.to_dict("list") == {"document_id": ["d1", "d0"], "query": ["what is alone", "noms triés"]}


GOOD = {"document_id": "d1", "query": "good"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([GOOD, "not JSON", "[1]", GOOD], r"q\.jsonl: line 2 is not like .*, as 2 of 4 lines are not: correct"),
        ([GOOD, "", {"document_id": "d1"}], r"line 3 is not like .* 1 of 2 lines"),
        ([{"document_id": "d1", "query": " "}], r"line 1 is not like .* 1 of 1 lines"),
        ([{"document_id": 1, "query": "a number"}], r"line 1 is not like"),
        ([GOOD, "", {"document_id": "d9", "query": "x"}, {"document_id": "d8", "query": "x"}],
         r"q\.jsonl: line 3 names document 'd9', which the collection lacks, as 2 of 3 do: give ids"),
    ],
)  # fmt: skip
def test_lines_that_cannot_be_used_are_one_sentence(tmp_path, lines, said):
    with pytest.raises(StudyError, match=said) as raised:
        read_generated(write(tmp_path / "q.jsonl", *lines), DOCUMENTS)
    assert "\n" not in str(raised.value)


def test_an_absent_or_binary_file_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="cannot be read as text"):
        read_generated(tmp_path / "none.jsonl", DOCUMENTS)
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyError, match="cannot be read as text"):
        read_generated(tmp_path / "binary.jsonl", DOCUMENTS)
