"""Packed weights give the same scores; 8-bit ones give others, and neither changes the model."""

import pytest
import torch
from transformers import AutoConfig, AutoModel

from rankscale_utils.models.cross_encoder import CrossEncoder
from rankscale_utils.scoring import packed as packing
from rankscale_utils.scoring.packed import (
    MANY_TOKENS,
    _AddAndNorm,
    _Glu,
    _Int8Linear,
    _Linear,
    _Rounder,
    bf16_pays,
    in_bf16,
    in_int8,
    pack,
    packed,
)

SHAPE = {"vocab_size": 300, "hidden_size": 256, "intermediate_size": 384, "num_attention_heads": 4, "pad_token_id": 0}
TOKENS = {"bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
MASK = (torch.arange(40) < torch.tensor([40, 12, 33, 12, 25])[:, None]).long()
IDS = torch.randint(3, 300, MASK.shape, generator=torch.Generator().manual_seed(1)) * MASK
BATCH = IDS, MASK, torch.zeros_like(MASK)


@pytest.fixture(params=["bert", "modernbert", "modernbert with biases"])
def model(request):
    torch.manual_seed(0)
    kind, *biases = request.param.split(" with ")
    settings = SHAPE | TOKENS | {"num_hidden_layers": 3}
    if biases:
        settings |= {"mlp_bias": True, "attention_bias": True}
    encoder = AutoModel.from_config(AutoConfig.for_model(kind, **settings))
    for tensor in encoder.parameters():
        torch.nn.init.normal_(tensor, std=0.1)
    made = CrossEncoder(encoder, reads="cls").eval()
    torch.nn.init.normal_(made.head.weight)
    return made


@torch.inference_mode()
def test_packed_layers_score_alike_and_are_gone_afterwards(model):
    before, kinds = model(*BATCH), [type(module) for module in model.modules()]
    with packed(model):
        inside = [type(module) for module in model.modules()]
        scores = model(*BATCH)
    assert _Linear in inside
    assert (_Glu in inside) == (model.encoder.config.model_type == "modernbert")
    assert (_AddAndNorm in inside) == (model.encoder.config.model_type == "bert")
    assert before.std() > 0.01
    torch.testing.assert_close(scores, before, atol=1e-5, rtol=0)
    assert [type(module) for module in model.modules()] == kinds
    assert torch.equal(model(*BATCH), before)


@torch.inference_mode()
def test_layers_packed_for_good_score_alike(model):
    before = model(*BATCH)
    pack(model)
    assert _Linear in [type(module) for module in model.modules()]
    torch.testing.assert_close(model(*BATCH), before, atol=1e-5, rtol=0)


def test_layers_come_back_after_an_error(model):
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(RuntimeError, match="stop"), packed(model):
        raise RuntimeError("stop")
    assert [type(module) for module in model.modules()] == kinds


def narrow_model():
    torch.manual_seed(0)
    small = AutoConfig.for_model("bert", **(SHAPE | {"hidden_size": 64}), num_hidden_layers=1)
    made = CrossEncoder(AutoModel.from_config(small), reads="cls").eval()
    torch.nn.init.normal_(made.head.weight)
    return made


@pytest.mark.parametrize("change", ["narrow", "float64"])
def test_models_that_gain_nothing_stay_as_they_are(model, monkeypatch, change):
    monkeypatch.setattr(packing, "mkl_halves", lambda: False)
    model = narrow_model() if change == "narrow" else model.double()
    kinds = [type(module) for module in model.modules()]
    with packed(model):
        assert [type(module) for module in model.modules()] == kinds


@torch.inference_mode()
def test_narrow_models_are_packed_for_large_batches_where_mkl_would_use_half_the_cpu(monkeypatch):
    monkeypatch.setattr(packing, "mkl_halves", lambda: True)
    model = narrow_model()
    before = model(*BATCH)
    with packed(model, MANY_TOKENS):
        assert _Linear in [type(module) for module in model.modules()]
        torch.testing.assert_close(model(*BATCH), before, atol=1e-5, rtol=0)
    with packed(model, MANY_TOKENS - 1):  # as for a single query
        assert _Linear not in [type(module) for module in model.modules()]
    pack(model)  # for good, as where every query is a batch of another shape
    assert _Linear not in [type(module) for module in model.modules()]


@torch.inference_mode()
def test_int8_rounds_a_copy(model):
    before, rounded = model(*BATCH), in_int8(model)
    inside = [type(module) for module in rounded.modules()]
    assert (_Int8Linear in inside) == torch.cpu._is_vnni_supported()
    assert torch.nn.Linear not in [type(module) for module in rounded.encoder.modules()]
    with packed(rounded):  # which finds nothing to pack
        scores = rounded(*BATCH)
    assert 1e-4 < (scores - before).abs().max() < 0.1 * before.abs().max()
    assert torch.equal(model(*BATCH), before)


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="this CPU multiplies no 8-bit integers")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_products_of_integers_are_near_those_of_what_they_stand_for(dtype):
    generator = torch.Generator().manual_seed(0)
    weight, bias, inputs, other = (
        torch.randn(*size, generator=generator) for size in ((40, 64), (40,), (1, 30, 64), (1, 30, 40))
    )
    weight[3], inputs = 0, inputs.to(dtype).float().add(1)  # a row of zeros, and inputs that are not about zero
    rounder = _Rounder()
    layer = rounder.linear(weight, bias)
    exact, given, beside = torch.nn.functional.linear(inputs, weight, bias), inputs.to(dtype), other.to(dtype)
    found = {
        "plain": (layer(given), exact),
        "gelu": (rounder.linear(weight, bias, "gelu")(given), torch.nn.functional.gelu(exact)),
        "add": (layer.combined(given, beside, "add"), exact + other),
        "mul": (layer.combined(given, beside, "mul"), exact * other),
    }
    for name, (made, wanted) in found.items():
        assert made.dtype == dtype
        assert 1e-3 < (made - wanted).pow(2).mean().sqrt() / wanted.std() < 0.02, name
    torch.testing.assert_close(layer(given)[..., 3].float(), exact[..., 3], atol=0.01, rtol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shift", [-9.0, -2.0, 0.0, 0.4, 9.0])
@torch.inference_mode()
def test_integers_stand_for_what_is_within_half_a_step_of_them(dtype, shift):
    """Inputs about zero and far from it, all of one sign too, in more rows than are rounded at once."""
    inputs = (torch.randn(3, 700, 24, generator=torch.Generator().manual_seed(0)) + shift).to(dtype)
    integers, step, zero = _Rounder().integers(inputs)
    assert integers.dtype == torch.uint8
    assert 0 <= zero <= 255
    assert ((integers.float() - zero) * step - inputs.float()).abs().max() < 0.501 * step
    assert integers.max() - integers.min() > 100 * (abs(shift) < 3)


@torch.inference_mode()
def test_the_same_inputs_are_rounded_once_and_others_anew():
    rounder, inputs = _Rounder(), torch.randn(4, 8)
    first, _, _ = rounder.integers(inputs)
    assert rounder.integers(inputs)[0] is first
    address = inputs.data_ptr()
    del inputs
    again = torch.randn(4, 8)  # may lie where the former lay
    assert rounder.integers(again)[0] is not first, (address, again.data_ptr())


@torch.inference_mode()
def test_bf16_rounds_a_copy_whose_head_stays_exact(model):
    before, rounded = model(*BATCH), in_bf16(model)
    scores = rounded(*BATCH)
    assert scores.dtype == torch.float32
    assert {parameter.dtype for parameter in rounded.head.parameters()} == {torch.float32}
    assert 1e-5 < (scores - before).abs().max() < 0.1 * before.abs().max()
    assert torch.equal(model(*BATCH), before)


def test_bf16_is_chosen_only_where_it_can_pay(model):
    small = AutoConfig.for_model("bert", **(SHAPE | {"hidden_size": 64}), num_hidden_layers=1)
    assert not bf16_pays(CrossEncoder(AutoModel.from_config(small)))
    assert not bf16_pays(model.double())
