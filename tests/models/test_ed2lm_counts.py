import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rankscale_utils.models.ed2lm_counts import Work, cross_attention_flops, decoder_flops, full_flops
from rankscale_utils.scoring.cross_attention import WAYS, CandidateGroup, Candidates
from rankscale_utils.scoring.decoder import DecoderScorer, project
from rankscale_utils.study.objectives import SCORES
from tests.models.ed2lm_models import VARIANTS, config, padded, tiny

WORK = Work(query=5, document=18, documents=4)


def counted(run):
    """Return the operations that torch counts, with attention written out as matrix products.

    Torch counts neither products in place nor those of a matrix and a vector, which the verdict is.
    """
    mine = {
        torch.ops.aten.addmm_: lambda _, a, b, **kwargs: 2 * a[0] * a[1] * b[1],
        torch.ops.aten.mv: lambda matrix, vector, **kwargs: 2 * matrix[0] * matrix[1],
    }
    with FlopCounterMode(display=False, custom_mapping=mine) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.fixture(params=VARIANTS)
def variant(request):
    return request.param


@torch.no_grad()
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("kind", "pooling"), [*((kind, 1) for kind in SCORES), ("both", 4)])
def test_a_scorers_operations_are_those_counted(variant, way, kind, pooling):
    model, work = tiny(variant), dataclasses.replace(WORK, kind=kind, pooling=pooling)
    states, _ = model.encode(*padded([work.document] * work.documents), pooling)
    parts = project(model, states).permute(2, 0, 1, 3).contiguous() if way == "stored" else states.unsqueeze(0)
    documents, query = (
        Candidates([CandidateGroup(parts, None)], torch.arange(work.documents)),
        padded([work.query])[0][0],
    )
    scorer = DecoderScorer(model, way)
    measured = counted(lambda: scorer.score(query, documents, kind))
    assert decoder_flops(config(variant), work, way) * work.documents == pytest.approx(measured)


@torch.no_grad()
def test_transformers_operations_are_those_counted(variant):
    model, t5 = tiny(variant), config(variant)
    model.t5.set_attn_implementation("eager")
    (document, _), (query, _) = padded([WORK.document]), padded([WORK.query + 1])
    full = counted(lambda: model.t5(input_ids=document, decoder_input_ids=query, use_cache=False))
    assert full_flops(t5, WORK) == pytest.approx(full)
    joint = padded([WORK.document + WORK.query])[0]
    one = counted(lambda: model.t5(input_ids=joint, decoder_input_ids=query[:, :1], use_cache=False))
    assert cross_attention_flops(t5, WORK) == pytest.approx(one)


def test_what_documents_share_is_divided_among_them():
    t5 = config("t5")
    many, one = (decoder_flops(t5, dataclasses.replace(WORK, documents=k), "stored") for k in (100, 1))
    shared = 8 * 6 * 24 * 30 + 4 * 36 * 30 + 2 * 6 * 24 * 30  # the first layer's self-attention, the next query
    assert one - many == pytest.approx(shared * 0.99)
