"""The contract: what the numbers of a test mean."""

import ir_measures

from rankscale_utils.collections import Collection
from rankscale_utils.collections.collection import DEV
from rankscale_utils.measurements.directions import rising
from rankscale_utils.study.study import Study

from .metrics import first_stage_scores, judged_at_10, open_test, reference_values


def contracts(study: Study, collection: Collection) -> dict[str, dict[str, str]]:
    """Return what the numbers of every test mean, for people to read."""
    return {name: contract(study, collection, name) for name in collection.tests}


def contract(study: Study, collection: Collection, name: str) -> dict[str, str]:
    """Return what a test's numbers mean, for people to read."""
    said, test = collection.manifest["tests"][name], open_test(study, collection, name)
    limits, k, grades = reference_values(test), study.evaluation.depth - 1, said["grades"]
    headline, filled = test.metrics[0], test.candidates.query("not retrieved and not positive")["query_id"].nunique()
    binary = len([grade for grade in grades if grade > 0]) <= 1
    lacking = said["test_queries"] - said["queries_with_candidates"]
    return {
        "collection": f"{said['collection']}: {said['test_queries']:,} queries, "
        f"{said['queries_also_trained_on']:,} of them also trained on (the same but for case and punctuation), and "
        f"{said['positives_also_training_documents']:,} of {said['positives']:,} relevant documents that are scored",
        "candidates": said["candidates"]
        + (f"; {lacking:,} queries have none and count as 0" if lacking else "")
        + (f"; {own:,} queries are documents, and not their own candidates" if (own := said["own_documents"]) else ""),
        "length": "; ".join(
            f"limits drop {cut['queries']:.1%} of the queries' tokens and {cut['documents']:.1%} of the candidates'"
            + f" where query and document are read {way}" * (len(said["cut"]) > 1)
            for way, cut in said["cut"].items()
        )
        + "; {queries:.1%} and {documents:.1%} of their letters stand in unknown words".format_map(said["unknown"]),
        "depth": f"the {said['depth']} best are reranked",
        "positives": f"as retrieved, never injected: {said['candidates_with_positive']:.1%} of queries have one",
        "first_stage": f"{headline} {limits.loc[headline, 'first_stage']:.4f}, the order as retrieved",
        "ceiling": f"{headline} {limits.loc[headline, 'ceiling']:.4f}, a perfect reranking of these candidates",
        "judgments": f"{'binary' if binary else 'graded'} ({', '.join(map(str, grades))}), "
        f"{said['judgments_a_query']:g} a query; unjudged counts as not relevant",
        "judged@10": f"{judged_at_10(test, first_stage_scores(test)):.1%} of the first stage's first ten are judged",
        "gain": "nDCG's gain is the grade and its discount log2(rank + 1); for binary measures a grade of "
        f"{test.relevant_from} or more is relevant",
        "ties": "trec_eval's rule: scores are compared in single precision, and equal ones ordered by document id, "
        "descending; scores in the runs that are written differ in single precision, so that they alone give this "
        "order in every tool",
        "measures": f"ir-measures {ir_measures.__version__}: {', '.join(test.metrics)}; every query counts",
        test.entropy: "−log softmax of one relevant document (of the highest grade, the best-ranked, retrieved or not) "
        f"against {k} negatives: the best-ranked candidates without a grade above 0, filled up for {filled:,} queries "
        f"with other queries' candidates; raw logits, nats; {int(test.candidates['positive'].sum()):,} queries",
        f"{test.entropy}-T": "the same after dividing the logits by one temperature a checkpoint, the best for half of "
        "the queries, chosen by the hash of their ids; the value is the other half's",
        **(_dense_contract(study, said) if "bi_encoder" in study.families else {}),
        **(_together(study, collection) if study.with_first_stage else {}),
        "significance": "paired t-test over queries, neighbouring rungs at the last exposure, Holm's correction",
        "content": f"SHA-256 of the training data {collection.manifest['sha256']}",
    }


def _together(study: Study, collection: Collection) -> dict[str, str]:
    """Return what is measured of a model together with the first stage, and on what its weight is learnt."""
    learnt = "on each half of these queries for the other half, chosen by the hash of their ids"
    if collection.has_dev:
        facts = collection.facts(DEV)
        learnt = (
            f"for each checkpoint on {facts['test_queries']:,} queries of {facts['collection']}, which are not tested"
        )
    return {
        "with first stage": "a model's scores and the first stage's, standardised within a query's candidates, weighed "
        f"so that {next(filter(rising, study.evaluation.metrics))} is highest: the weight, one of 0, 0.05, … 1, is "
        f"learnt {learnt}",
        "by rank fusion": "Σ 1 / (60 + rank) over both orders (Cormack et al., SIGIR 2009): nothing is learnt",
    }


def _dense_contract(study: Study, said: dict) -> dict[str, str]:
    """Return what a bi-encoder's own numbers mean."""
    settings, temperature = study.evaluation, study.objectives["contrastive"].temperature
    products = f"inner products divided by {temperature:g}, as in training" if temperature else "raw inner products"
    own = study.pretrained and not study.bi_encoder.dimensions
    dimensions = "each rung's own" if own else study.bi_encoder.of_new_layers["dimensions"]
    return {
        "searched": f"exact search by inner product ({dimensions} dimensions) over all {said['documents']:,} "
        f"documents, the {settings.depth} best; its ceiling is the judged documents in their best order",
        settings.entropy: f"−log softmax of the relevant document against {settings.negatives} random documents, "
        f"from a pool of {min(settings.pool, said['documents']):,} or as many as are relevant to no test query, mean "
        f"of 10 draws; {products}, nats (arXiv 2403.18684, §3.3)",
    }
