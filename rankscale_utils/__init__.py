"""Train small rerankers, forecast the large one, decide how to spend the budget, publish the evidence.

In Python or a notebook of one's own: `read_measurements`, `fit`, `forecast`, `allocate`, `open_study`, `rerank` and
`evaluate`; to look into a study `explore`, `query_gains`, `read_query` and `training_curves`. Each is imported when it
is first asked for. What cannot be used ends with one sentence, a `StudyError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .analysis.explore import explore
    from .analysis.ladder_allocation import allocate
    from .analysis.ladder_fits import fit
    from .analysis.ladder_forecast import forecast
    from .analysis.query_gains import query_gains
    from .errors import StudyError
    from .evaluation.rankings import evaluate
    from .evaluation.read_query import read_query
    from .measurements.reading import read_measurements
    from .measurements.training_curves import training_curves
    from .scoring.rerank import rerank
    from .study.loading import open_study

__all__ = [
    "StudyError",
    "allocate",
    "evaluate",
    "explore",
    "fit",
    "forecast",
    "open_study",
    "query_gains",
    "read_measurements",
    "read_query",
    "rerank",
    "training_curves",
]

_ROOMS = {
    "StudyError": "errors",
    "allocate": "analysis.ladder_allocation",
    "evaluate": "evaluation.rankings",
    "explore": "analysis.explore",
    "fit": "analysis.ladder_fits",
    "forecast": "analysis.ladder_forecast",
    "open_study": "study.loading",
    "query_gains": "analysis.query_gains",
    "read_measurements": "measurements.reading",
    "read_query": "evaluation.read_query",
    "rerank": "scoring.rerank",
    "training_curves": "measurements.training_curves",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
