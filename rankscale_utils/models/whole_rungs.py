"""Ladders that are cut from a finished model, and the rungs of them that are all of it."""

from rankscale_utils.study.ladder import Pretrained
from rankscale_utils.study.study import Study

from .own_layers import makes_embeddings
from .pretrained import read_config


def whole_rungs(study: Study) -> list[str]:
    """Return the held-out rungs that are all of a finished bi-encoder of which fitted rungs are the first layers.

    It was finished with all its layers, which the cut rungs lack: before its first step it ranks, and they do not, so
    that it continues no law of theirs. A reranker's new head begins alike on every rung.
    """
    if "bi_encoder" not in study.families:
        return []
    cut = {rung: _is_cut(study, rung) for rung in study.pretrained}
    fitted = {study.pretrained[rung] for rung in cut if cut[rung] and rung not in study.held_out.rungs}
    whole = [rung for rung in study.held_out.rungs if rung in cut and not cut[rung]]
    return [rung for rung in whole if study.pretrained[rung] in fitted and makes_embeddings(study.pretrained[rung])]


def _is_cut(study: Study, rung: str) -> bool:
    given = study.ladder[rung]
    if not isinstance(given, Pretrained) or given.layers is None:
        return False
    return given.layers < read_config(f"ladder.{rung}", study.pretrained[rung]).num_hidden_layers
