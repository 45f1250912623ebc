"""The README of a checkpoint: how to load it, and how its texts were cut when it was measured."""

from typing import NamedTuple

from .bi_encoder import BiEncoder
from .classifier import TransformersHead
from .cross_encoder import CrossEncoder
from .decoder import DecoderReranker, VerdictHead
from .ed2lm import Ed2lm

READ = {
    "cls": "the first token's state",
    "last": "the last token's state",
    "mean": "the mean of all states",
    "query": "the mean of the query's states",
}


class Cut(NamedTuple):
    """The longest texts, in tokens: of a pair and of its query alone (None: no limit of its own); and read apart, with
    special tokens.
    """

    pair_tokens: int
    query_tokens: int | None
    query_apart: int
    document_apart: int


def scored_by(model: CrossEncoder | BiEncoder | Ed2lm) -> str:
    """Say what makes a model's scores, for people to read."""
    if isinstance(model, Ed2lm):
        return "what the decoder says of the query after the document"
    if isinstance(model, BiEncoder):
        return "the inner product of embeddings"
    if isinstance(model.head, VerdictHead):
        return "the logit of one word less that of another after the prompt"
    return f"a head on {READ[model.reads]}"


def model_card(model: CrossEncoder | BiEncoder | Ed2lm, cut: Cut) -> str:
    """Return what a checkpoint's README says."""
    if isinstance(model, Ed2lm):
        kind, lengths, loads = "An ED2LM", _of_ed2lm(model, cut), ED2LM
    elif isinstance(model, BiEncoder):
        kind, lengths, loads = "A bi-encoder", _apart(cut), BI_ENCODER
    else:
        loads = _language_model(model, cut) if isinstance(model.head, VerdictHead) else _cross_encoder(model, cut)
        kind, lengths = "A cross-encoder", _together(cut)
        if isinstance(model, DecoderReranker):
            lengths += f"\nNever cut is the prompt, into which the tokenizer puts both:\n\n{_prompt(model)}"
    return f"# {kind} that rankscale trained\n\n## Lengths\n\n{lengths}\n\n## Loading\n\n{loads}"


def _together(cut: Cut) -> str:
    whole = f"A pair has {cut.pair_tokens} tokens at most, special ones included."
    if cut.query_tokens:
        return f"{whole} A query is cut after {cut.query_tokens} tokens; then the document gives way."
    return f'{whole} The longer of query and document gives way (`truncation="longest_first"`).'


def _apart(cut: Cut) -> str:
    return (
        f"A query has {cut.query_apart} tokens at most and a document {cut.document_apart}, special ones included; "
        "their ends are cut. The score is the inner product."
    )


def _of_ed2lm(model: Ed2lm, cut: Cut) -> str:
    query = f"A query is cut after {cut.query_tokens or cut.pair_tokens} tokens and has no end token"
    return f"{query}; a document has {model.setting.document_tokens} at most, its end token included."


def _cross_encoder(model: CrossEncoder, cut: Cut) -> str:
    trust = ", trust_remote_code=True" if cut.query_tokens or model.reads == "query" else ""
    code = "    from sentence_transformers import CrossEncoder\n"
    code += f'    CrossEncoder("this folder"{trust}).predict([("a query", "a document")])\n'
    code += "\ngives the scores that were measured, raw logits"
    code += ", for texts of any length: `pair_reader.py` cuts them as above." if trust else ", for texts of any length."
    if not isinstance(model.head, TransformersHead):
        return code + "\n`AutoModelForSequenceClassification` does not know this head and would make a random one.\n"
    same = "" if not cut.query_tokens else " where the query is not cut, or you cut it so"
    return code + f"\n`AutoModelForSequenceClassification` reads the folder as well, with the same logits{same}.\n"


def _prompt(model: DecoderReranker) -> str:
    return "".join(f"    {line}\n" for line in model.encoder.config.prompt.split("\n"))


def _language_model(model: DecoderReranker, cut: Cut) -> str:
    cuts, trust = (", once the query is cut as above", ", trust_remote_code=True") if cut.query_tokens else ("", "")
    return f"""    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained("this folder")
    model = AutoModelForCausalLM.from_pretrained("this folder")
    pair = tokenizer("a query", "a document", truncation=True, max_length={cut.pair_tokens}, return_tensors="pt")
    relevant, other = model.config.verdict
    logits = model(**pair).logits[0, -1]
    logits[relevant] - logits[other]

gives the score that was measured{cuts}; so does `sentence_transformers.CrossEncoder("this folder"{trust})`, which cuts
by itself.
"""


BI_ENCODER = """    from sentence_transformers import SentenceTransformer
    model = SentenceTransformer("this folder")
    model.encode_query(["a query"]) @ model.encode_document(["a document"]).T

gives the scores that were measured; `encode` alone cuts at the length of a pair and puts no prompt before a text.
"""
ED2LM = """`AutoModelForSeq2SeqLM.from_pretrained` reads the folder, and `rankscale_utils.rerank` scores with it.
"""
