"""Layers that multiply by oneDNN learn as those that multiply by MKL, to rounding."""

import pytest
import torch
from torch import nn

from rankscale_utils.machine import device
from rankscale_utils.training import linear
from rankscale_utils.training.linear import NARROWEST, multiply_by_onednn


def network(bias=True):
    torch.manual_seed(0)
    wide = [nn.Linear(NARROWEST, 2 * NARROWEST, bias), nn.GELU(), nn.Linear(2 * NARROWEST, NARROWEST, bias)]
    return nn.Sequential(*wide, nn.Linear(NARROWEST, 3))


def learnt(model, inputs):
    model(inputs).square().mean().backward()
    return [inputs.grad, *(parameter.grad for parameter in model.parameters())]


@pytest.fixture
def halved(monkeypatch):
    monkeypatch.setattr(linear, "mkl_halves", lambda: True)


@pytest.mark.parametrize("shape", [(7,), (1, 50), (2, 3, 5), ()])
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_gradients_are_those_of_plain_layers(halved, shape, bias):
    plain, ours = network(bias), network(bias)
    multiply_by_onednn(ours)
    ones, others = (torch.randn(*shape, NARROWEST, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    torch.testing.assert_close(ours(ones), plain(others), atol=1e-5, rtol=1e-5)
    made = zip(learnt(ours, ones.requires_grad_()), learnt(plain, others.requires_grad_()), strict=True)
    for gradient, wanted in made:
        torch.testing.assert_close(gradient, wanted, atol=1e-6, rtol=1e-4)


def test_no_rows_are_no_error(halved):
    model = network()
    multiply_by_onednn(model)
    model(torch.ones(0, NARROWEST)).sum().backward()
    assert not model[0].weight.grad.any()


def test_weights_that_do_not_learn_get_no_gradient(halved):
    model = network()
    multiply_by_onednn(model)
    model[0].weight.requires_grad_(False)
    model(torch.ones(4, NARROWEST)).sum().backward()
    assert model[0].weight.grad is None
    assert model[0].bias.grad is not None


def test_only_wide_layers_change_and_their_names_stay(halved):
    model = network()
    before = model.state_dict()
    multiply_by_onednn(model)
    assert [type(model[place]) is nn.Linear for place in (0, 2, 3)] == [False, False, True]
    assert list(model.state_dict()) == list(before)


@pytest.mark.parametrize(("halves", "dtype"), [(False, torch.float32), (True, torch.float64)])
def test_layers_stay_where_mkl_uses_the_whole_cpu_and_in_other_numbers(monkeypatch, halves, dtype):
    monkeypatch.setattr(linear, "mkl_halves", lambda: halves)
    model = network().to(dtype)
    multiply_by_onednn(model)
    assert all(type(module) is not linear._Linear for module in model.modules())


@pytest.mark.parametrize(
    ("vendor", "wide", "halves"),
    [("AuthenticAMD", True, True), ("AuthenticAMD", False, False), ("GenuineIntel", True, False), (None, True, False)],
)
def test_mkl_halves_wide_cpus_that_are_not_intels(monkeypatch, vendor, wide, halves):
    monkeypatch.setattr(device, "_of_processor", {"vendor_id": vendor}.get)
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: wide)
    assert device.mkl_halves.__wrapped__() is halves
