"""What a reader must be told of a collection: warnings, and all that was dropped, filled in or read otherwise."""

from typing import Any

MANY = 0.1  # a share that is warned about
UNREAD = 0.02  # and of letters
# What was dropped, filled in or read otherwise than written, by the name of its count in a manifest.
CHANGES = {
    "first_line_as_triple": "files without names of columns: the first line was read as query, positive and negative",
    "columns_unread": "columns were not used",
    "lines_cut_short": "lines have fewer cells than columns: the others count as empty",
    "lines_quoted": "lines have a cell in quotation marks, as spreadsheets write: the marks stay in its text",
    "lines_without_grade": "pairs without a grade: it became 1",
    "pairs_repeated": "pairs of the same texts stand more than once: they count once, with the highest grade",
    "queries_spelled_otherwise": "queries are another's but for case and punctuation: they count as one query",
    "negatives_repeated": "negatives of a query stand more than once: they count once",
    "negatives_also_positive": "negatives are relevant to the same query: they are no negatives",
    "queries_set_apart": "queries are set apart (dev) and never used",
    "source_files_unread": "source files cannot be parsed: they were passed over",
    "docstrings_unfit": "docstrings are too short, mostly code or repeat their summary: they were passed over",
    "docstrings_cut": "documents were cut after so many words as one may have",
    "docstrings_repeated": "docstrings are another's: they were passed over",
    "empty_documents": "documents have no text: they were kept empty",
    "judgments_repeated": "judgments of a pair that was judged before: its highest grade counts",
    "judgments_not_relevant": "judgments have a grade that is not relevant: they make no training pair",
    "judgments_without_query": "judgments name a query that is not among the queries: they were passed over",
    "judgments_without_teacher": "relevant documents have no score of the teacher: they make no training pair",
    "queries_unjudged": "queries have no such judgment: they were passed over",
    "queries_beyond_wanted": "queries were left out, as fewer were asked for",
    "queries_of_the_run_unasked": "queries of the run are not among those asked: they were passed over",
    "queries_ranked_otherwise": "queries of the run have ranks that are not the order of their scores: scores decide",
    "queries_tied": "queries of the run have one score for all documents: the order is that of their ids, descending",
    "queries_without_candidates": "queries have no candidates: they count as 0",
    "queries_filled_up": "queries have too few negatives for the entropy: other queries' candidates filled them up",
    "own_documents": "queries are documents themselves: they are not among their own candidates",
    "without_text": "relevant documents are not in the collection: they make no training pair",
    "positives_without_text": "relevant documents are not in the collection: they cannot be ranked",
    "too_few_negatives": "training pairs have fewer hard negatives than a group: they were left out",
}


def collection_notes(manifest: dict[str, Any]) -> list[str]:
    """Return sentences on what a manifest counts, the training collection's before each test's."""
    return _of_training(manifest) + [note for name, test in manifest["tests"].items() for note in _of_test(name, test)]


def collection_changes(manifest: dict[str, Any]) -> list[dict[str, str | int]]:
    """Return what was dropped, filled in or read otherwise, by a manifest's counts: what, count, where; a row each."""
    counted = {f"{manifest['collection']}, training": manifest | manifest["left_out"]} | manifest["tests"]
    unread = {"columns_unread": f": {', '.join(manifest.get('columns_unused', ()))}"}
    return [
        {"what": what + unread.get(key, ""), "count": counts[key], "where": where}
        for where, counts in counted.items()
        for key, what in CHANGES.items()
        if counts.get(key)
    ]


def _of_training(manifest: dict[str, Any]) -> list[str]:
    notes, name = _cut("training", manifest["cut"]), manifest["collection"]
    notes += _unknown("training", manifest["unknown"])
    return notes + _unmatched(name, "training", manifest["train_queries_without_a_match"], manifest["train_queries"])


def _of_test(name: str, test: dict[str, Any]) -> list[str]:
    notes = _cut(name, test["cut"]) + _unknown(name, test["unknown"])
    notes += _unmatched(name, "test", test["queries_without_a_match"], test["test_queries"])
    if count := test["queries_also_trained_on"]:
        notes.append(f"{name}: {count:,} of {test['test_queries']:,} test queries are training queries too.")
    if count := test["positives_also_training_documents"]:
        notes.append(
            f"{name}: {count:,} of {test['positives']:,} relevant documents that are scored are training documents too."
        )
    return notes


def _cut(name: str, shares: dict[str, dict[str, float]]) -> list[str]:
    """Return a warning where a length limit drops much; shares: by how pairs are read, and by the kind of text."""
    fields, notes = {"queries": "text.query_tokens", "documents": "text.pair_tokens"}, []
    for way, by_kind in shares.items():
        where = f" where query and document are read {way}" if len(shares) > 1 else ""
        notes += [
            f"{name}: {fields[kind]} drops {share:.0%} of the {kind}' tokens{where}."
            for kind, share in by_kind.items()
            if share > MANY
        ]
    return notes


def _unknown(name: str, shares: dict[str, float]) -> list[str]:
    """Return a warning where the tokenizer takes much for unknown words, as in a language that it was not made for."""
    return [
        f"{name}: {share:.0%} of the {kind}' letters stand in words that the tokenizer does not know and reads as one "
        "token: name rungs of that language, or bring training texts that have such letters."
        for kind, share in shares.items()
        if share > UNREAD
    ]


def _unmatched(name: str, kind: str, count: int, total: int) -> list[str]:
    if count <= MANY * total:
        return []
    return [
        f"{name}: {count:,} of {total:,} {kind} queries share no word with any document, so that BM25 ranks nothing "
        "for them: set first_stage.tokenizer: unicode where words are not parted by blanks."
    ]
