"""What a study trains on and is tested on: the forms that `collection:` may take."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from .fields import Part, Whole


class Docstrings(Part):
    """Which sources the collection `docstrings` reads."""

    packages: tuple[str, ...] = Field(
        (), description="`python` is the standard library; empty: all that the lock names"
    )


class JudgedCollection(Part):
    """What collections with judgments of their own share: who supplies the candidates, and what counts as relevant."""

    candidates: str = Field("bm25", min_length=1, description="bm25, or a TREC run, relative to the YAML")
    relevant_from: Whole | None = Field(
        None, gt=0, description="the lowest grade that is relevant; absent: 2 for TREC DL, as is its custom, else 1"
    )
    teacher: str | None = Field(
        None, description="a TREC run whose scores of the training candidates a student learns from"
    )

    @property
    def files(self) -> list[str]:
        """The files that it names, as written."""
        given = [] if self.candidates in ("bm25", "scoreddocs") else [self.candidates]
        return given + [self.teacher] * (self.teacher is not None)


class IrDatasets(JudgedCollection):
    """A collection that ir_datasets knows; its files lie in the folder IR_DATASETS_HOME or are downloaded there."""

    ir_datasets: str = Field(min_length=1, description="its id, such as msmarco-passage/train")
    candidates: str = Field("bm25", min_length=1, description="bm25, scoreddocs (the id's own), or a TREC run's path")
    queries: Whole | None = Field(None, gt=0, description="so many, chosen by the hash of their text; absent: all")


class TrecFiles(JudgedCollection):
    """Files of one's own: documents and queries (id<TAB>text, or JSON lines), judgments and a run in TREC's format."""

    documents: str
    queries: str
    judgments: str

    @property
    def files(self) -> list[str]:
        """The files that it names, as written."""
        return [self.documents, self.queries, self.judgments, *super().files]


class Columns(Part):
    """What a file of pairs calls its columns, where they have none of the usual names."""

    query: str | None = None
    positive: str | None = Field(None, description="a text, or a list of them")
    negatives: tuple[str, ...] = Field((), description="beside those whose names say it, such as negative_1 or neg")
    grade: str | None = None


class PairsFile(Part):
    """A file of pairs (.jsonl, .csv, .tsv, also .gz, or .parquet): query, positive and, if known, negatives and grade.

    Four fifths of the queries train, a tenth is never used (dev), and a tenth is the test, by the hash of their text.
    """

    pairs: str
    columns: Columns = Field(Columns(), description="such as {query: asked, positive: found}")

    @property
    def files(self) -> list[str]:
        """The files that it names, as written."""
        return [self.pairs]


def _form(given: Any) -> str | None:
    """Return which form of a collection is meant, in brackets, which keep it out of messages."""
    fields = given.model_fields_set if isinstance(given, Part) else given if isinstance(given, dict) else [given]
    forms = [form for form in ("docstrings", "ir_datasets", "pairs", "documents") if form in fields]
    return f"[{forms[0]}]" if len(forms) == 1 else None


CollectionForm = Annotated[
    Annotated[Literal["docstrings"], Tag("[docstrings]")]
    | Annotated[IrDatasets, Tag("[ir_datasets]")]
    | Annotated[PairsFile, Tag("[pairs]")]
    | Annotated[TrecFiles, Tag("[documents]")],
    Discriminator(
        _form,
        custom_error_type="no_collection",
        custom_error_message="write one of docstrings, {ir_datasets: ID}, {pairs: FILE}, or "
        "{documents: FILE, queries: FILE, judgments: FILE}",
    ),
]
