"""Linear layers while a model trains on a CPU of which PyTorch's matrix library uses half the width.

MKL, which multiplies float32 in PyTorch, knows AVX-512 of Intel's CPUs alone; oneDNN, which PyTorch holds as well, uses
it wherever it is. The numbers are the same but for rounding.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from rankscale_utils.machine.device import mkl_halves

NARROWEST = 128  # of layers: oneDNN prepares a kernel for every new batch shape, in a quarter of a millisecond


class _Product(torch.autograd.Function):
    """A linear layer and its gradient: three products by oneDNN."""

    @staticmethod
    def forward(ctx: FunctionCtx, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return _product(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        of_inputs, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        return (
            _product(gradient, weight.T) if of_inputs else None,
            _weight_gradient(rows, inputs.flatten(0, -2)) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def _weight_gradient(gradient: Tensor, inputs: Tensor) -> Tensor:
    """Return (out, in) of (tokens, out) and (tokens, in); the narrower one is copied, as oneDNN reads it by columns."""
    if gradient.shape[1] <= inputs.shape[1]:
        return _product(gradient.T, inputs.T)
    return _product(inputs.T, gradient.T).T.contiguous()


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "none")


class _Linear(nn.Linear):
    """A linear layer whose products are oneDNN's."""

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.dim() < 2 or not inputs.numel():
            return super().forward(inputs)
        return _Product.apply(inputs, self.weight, self.bias)


def multiply_by_onednn(model: nn.Module) -> None:
    """Let a float32 model's wide linear layers multiply by oneDNN if it is on a CPU of which MKL would use half.

    Weights and their names stay. torch's counter of FLOPs no longer sees these layers.
    """
    first = next(model.parameters())
    suits = first.device.type == "cpu" and first.dtype == torch.float32
    if suits and mkl_halves() and torch.backends.mkldnn.is_available():
        for module in model.modules():
            if type(module) is nn.Linear and min(module.weight.shape) >= NARROWEST:
                module.__class__ = _Linear
