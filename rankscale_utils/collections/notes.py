"""What a reader must be told of a collection: all that was dropped, filled in or read otherwise than written."""

from typing import Any

MANY = 0.1  # a share that is warned about


def collection_notes(manifest: dict[str, Any]) -> list[str]:
    """Return sentences on what a manifest counts, the training collection's before each test's."""
    return [*_of_file(manifest), *_of_training(manifest)] + [
        note for name, test in manifest["tests"].items() for note in _of_test(name, test)
    ]


def _of_file(manifest: dict[str, Any]) -> list[str]:
    notes, name = [], manifest["collection"]
    if not manifest.get("columns_named", True):
        notes.append(f"{name} names no columns: its three were read as query, positive and negative.")
    if unused := manifest.get("columns_unused"):
        notes.append(f"{name} has columns that were not used: {', '.join(unused)}.")
    if count := manifest.get("queries_spelled_otherwise"):
        notes.append(f"{count:,} queries of {name} are another's but for case and punctuation, and count as one query.")
    return notes


def _of_training(manifest: dict[str, Any]) -> list[str]:
    notes, name = _cut("training", manifest["cut"]), manifest["collection"]
    notes += _unmatched(name, "training", manifest["train_queries_without_a_match"], manifest["train_queries"])
    return notes + _empty(name, manifest)


def _of_test(name: str, test: dict[str, Any]) -> list[str]:
    notes = _cut(name, test["cut"]) + _empty(name, test)
    notes += _unmatched(name, "test", test["queries_without_a_match"], test["test_queries"])
    if count := test["own_documents"]:
        notes.append(f"{name}: {count:,} queries are documents themselves, and not among their own candidates.")
    if count := test["queries_also_trained_on"]:
        notes.append(f"{name}: {count:,} of {test['test_queries']:,} test queries are training queries too.")
    if count := test["positives_also_training_documents"]:
        notes.append(
            f"{name}: {count:,} of {test['positives']:,} relevant documents that are scored are training documents too."
        )
    return notes


def _empty(name: str, counts: dict[str, Any]) -> list[str]:
    count = counts.get("empty_documents")
    return [f"{name}: documents without a text, which were kept empty: {count:,}."] if count else []


def _cut(name: str, shares: dict[str, float]) -> list[str]:
    """Return a warning where a length limit drops much."""
    fields = {"queries": "text.query_tokens", "documents": "text.pair_tokens"}
    much = {kind: share for kind, share in shares.items() if share > MANY}
    return [f"{name}: {fields[kind]} drops {share:.0%} of the {kind}' tokens." for kind, share in much.items()]


def _unmatched(name: str, kind: str, count: int, total: int) -> list[str]:
    if count <= MANY * total:
        return []
    return [
        f"{name}: {count:,} of {total:,} {kind} queries share no word with any document, so that BM25 ranks nothing "
        "for them: set first_stage.tokenizer: unicode where words are not parted by blanks."
    ]
