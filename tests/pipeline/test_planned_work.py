"""How many pairs runs will score, by the queries that tests really have."""

import pytest

from rankscale_utils.collections.normal_text import normal_text
from rankscale_utils.collections.splits import split_of
from rankscale_utils.errors import StudyError
from rankscale_utils.pipeline.planned_work import PlannedWork


def test_a_test_of_files_of_ones_own_counts_the_queries_in_the_file(new_study, tmp_path):
    queries = "".join(f"q{n}\twhat is {n}\n" for n in range(20))
    (tmp_path / "params" / "queries.tsv").write_text(queries)
    own = {"documents": "docs.jsonl", "queries": "queries.tsv", "judgments": "qrels.txt"}
    study = new_study("own", evaluation={"depth": 10, "tests": {"own": own}})
    assert PlannedWork.of(study, "cross_encoder").scored == 20 * 10 * 3  # queries, depth, exposures
    with pytest.raises(StudyError, match=r"evaluation\.tests\.own names .*docs\.jsonl, which is no file"):
        study.check_files()


@pytest.mark.parametrize("as_test", [True, False])
def test_a_file_of_pairs_counts_the_queries_that_fall_into_its_test(new_study, tmp_path, as_test):
    pairs = "".join(f"what is {n}\tit is {n}\n" for n in range(200))
    (tmp_path / "params" / "p.tsv").write_text("query\tpositive\n" + pairs)
    own, few = {"pairs": "p.tsv"}, {"depth": 10, "queries": 5}
    in_test = sum(split_of(normal_text(f"what is {n}")) == "test" for n in range(200))
    assert 10 < in_test < 30
    for evaluation, queries in (({"depth": 10}, in_test), (few, 5)):
        forms = (
            {"evaluation": evaluation | {"tests": {"own": own}}}
            if as_test
            else {"evaluation": evaluation, "collection": own}
        )
        assert PlannedWork.of(new_study("own", **forms), "cross_encoder").scored == queries * 10 * 3
