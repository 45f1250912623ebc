"""Words of the field as pages use them: explained where they stand, and all together at the end."""

import re

from markupsafe import Markup, escape

TERMS = {
    "rung": "One model size of a ladder of models that are trained alike.",
    "objective": "What training minimises: pointwise looks at one document, pairwise at two, listwise at a whole list.",
    "exposure": "The training pairs (query, document) that a model has seen.",
    "first stage": "The search that finds each query's candidates, such as BM25. A reranker only reorders them.",
    "nDCG@10": "Quality of the first ten documents of a ranking, from 0 to 1: relevant documents count more the higher "
    "they stand.",
    "RR@10": "One over the rank of the first relevant document among the first ten, from 0 to 1.",
    "contrastive entropy": "CE19: how surprised a model is, in nats, by which of 20 documents is relevant; best is 0. "
    "CE19-T: after scores were rescaled once.",
    "random order": "The candidates shuffled: what a model that learnt nothing scores, on average.",
    "ceiling": "What a perfect order of the candidates scores. No reranker passes it.",
    "held out": "Not used by any fit, and in a study that trains not even trained before its forecast is sealed.",
    "forecast": "What laws fitted to the smaller rungs say of a larger one: an average of several laws.",
    "interval": "Where one new training run of that rung should fall, as often as its level says: 95 times in 100.",
    "coverage": "How often such intervals held the truth, on ladders that others trained.",
    "“no change”": "The simplest forecast: the large rung scores what the largest fitted rung does.",
    "skill": "1 − error / error of “no change”: 1 is perfect, below 0 is worse than “no change”.",
    "P0": "The forecasting protocol of arXiv 2603.04816: a size law fitted to the last checkpoints.",
    "skill to P0": "1 − error / error of P0's forecast.",
    "seal": "A hash written with the forecasts before the held-out rung is trained; a changed forecast is refused.",
    "led by the prior": "The runs alone do not tell: what is known of other ladders decides the law.",
    "undecided": "The interval holds both answers: more runs are needed to tell.",
    "FLOPs": "Arithmetic operations of training; 1e18 cost about $1.40 on an H100.",
}
_WORDS = re.compile("|".join(rf"(?<![\w-]){re.escape(term)}(?![\w-])" for term in sorted(TERMS, key=len, reverse=True)))


def anchor(term: str) -> str:
    """Return where a page's glossary explains a term."""
    return "term-" + re.sub(r"\W+", "-", term).strip("-").lower()


def explained(text: str) -> Markup:
    """Return text as HTML whose terms, each where it first stands, say what they mean and lead to the glossary."""
    seen: set[str] = set()

    def link(match: re.Match) -> str:
        term = match[0]
        if term in seen:
            return str(escape(term))
        seen.add(term)
        return f'<a class="term" href="#{anchor(term)}" title="{escape(TERMS[term])}">{escape(term)}</a>'

    parts = re.split(f"({_WORDS.pattern})", text)
    return Markup("".join(_WORDS.sub(link, part) if _WORDS.fullmatch(part) else str(escape(part)) for part in parts))


def glossary() -> list[tuple[str, str, str]]:
    """Return every term in alphabetical order: its anchor, itself, and what it means."""
    return [(anchor(term), term, TERMS[term]) for term in sorted(TERMS, key=lambda term: term.strip("“").lower())]
