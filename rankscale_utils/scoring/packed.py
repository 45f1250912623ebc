"""Linear layers packed for the CPU's matrix library while a model scores: same numbers, fewer passes over memory.

oneDNN multiplies by weights whose blocks lie as its kernels read them, and applies GELU, a gate or a sum to every block
of the result while it is in the cache.
"""

import copy
import math
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import GELUActivation
from transformers.models.bert.modeling_bert import BertIntermediate, BertOutput, BertSelfOutput
from transformers.models.modernbert.modeling_modernbert import ModernBertMLP

from rankscale_utils.machine.device import has_bf16, mkl_halves
from rankscale_utils.models.cross_encoder import CrossEncoder

NARROWEST = 256  # of hidden sizes: a narrower model's layers take less time than preparing a kernel for each batch
MANY_TOKENS = 2**18  # to be read at once, of which many batches are of one shape
TOKENS_TOGETHER = (4096, 16_384)  # the fewest and the most that are read together
CACHED_STATES = 2**20  # numbers, 4 MB of float32
ROWS_ROUNDED = 512  # to integers at once: what that takes stays in the cache
TOKENS_TRIED, PASSES_TRIED = 512, 4  # of a layer, to see in which numbers it is faster: some milliseconds


class _Linear(nn.Module):
    """A linear layer's weight, packed, and what is done with each block of its result."""

    def __init__(self, weight: Tensor, bias: Tensor | None, then: str = "none") -> None:
        super().__init__()
        self.weight, self.bias, self.then = weight, bias, then
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.bias, self.then, [], "none")

    def combined(self, inputs: Tensor, other: Tensor, how: Literal["add", "mul"]) -> Tensor:
        """Return the layer's result plus or times another tensor of its shape."""
        return torch.ops.mkldnn._linear_pointwise.binary(inputs, other, self.packed, self.bias, how)


class _Int8Linear(nn.Module):
    """The same in 8-bit integers, weights rounded by row and inputs by batch; what is done with a result is exact."""

    def __init__(self, rounder: "_Rounder", weight: Tensor, bias: Tensor | None, then: str = "none") -> None:
        super().__init__()
        self.rounder, self.weight, self.bias, self.then = rounder, weight, bias, then
        scales = weight.detach().abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        integers = (weight.detach() / scales[:, None]).round().to(torch.int8)
        zeros = torch.zeros(len(scales), dtype=torch.int32)
        self.layer = torch.ops.onednn.qlinear_prepack(integers, None), scales, zeros
        self.added = None if bias is None else bias.detach().float()

    def forward(self, inputs: Tensor) -> Tensor:
        multiply, after = torch.ops.onednn.qlinear_pointwise, (1.0, 0, inputs.dtype, self.then, [], "none")
        return multiply(*self.rounder.integers(inputs), *self.layer, self.added, *after)

    def combined(self, inputs: Tensor, other: Tensor, how: Literal["add", "mul"]) -> Tensor:
        """Return the layer's result plus or times another tensor of its shape."""
        if how == "mul":
            return self(inputs).mul_(other)
        multiply = torch.ops.onednn.qlinear_pointwise.binary
        after = (1.0, 0, inputs.dtype, 1.0, 0, how, 1.0, "none", [], "")
        return multiply(*self.rounder.integers(inputs), *self.layer, other, self.added, *after)


class _Rounder:
    """Rounds a model's inputs of layers; the last ones are kept, as queries, keys and values are made of the same."""

    def __init__(self) -> None:
        self._last: Callable[[], Tensor | None] = lambda: None
        self._made: tuple[Tensor, float, int] | None = None

    def linear(self, weight: Tensor, bias: Tensor | None, then: str = "none") -> _Int8Linear:
        """Return a layer whose inputs are rounded here."""
        return _Int8Linear(self, weight, bias, then)

    def integers(self, inputs: Tensor) -> tuple[Tensor, float, int]:
        """Return inputs as integers of 0 to 255, the size of a step between these, and the one that stands for zero."""
        if self._last() is not inputs:
            self._last, self._made = weakref.ref(inputs), _integers(inputs)
        return self._made


def _integers(inputs: Tensor) -> tuple[Tensor, float, int]:
    least, most = (float(end) for end in inputs.aminmax())
    least, most = min(least, 0.0), max(most, 0.0)
    step = (most - least) / 254 or 1.0  # so that, with zero rounded up, nothing needs to be clipped
    zero = math.ceil(-least / step)
    shifted, signed = torch.tensor(zero - 128.0), torch.empty(inputs.shape, dtype=torch.int8)
    rows = inputs.flatten(0, -2).split(ROWS_ROUNDED), signed.flatten(0, -2).split(ROWS_ROUNDED)
    for part, rounded in zip(*rows, strict=True):
        rounded.copy_(torch.add(shifted, part.float(), alpha=1 / step).round_())
    return signed.view(torch.uint8).bitwise_xor_(128), step, zero  # PyTorch converts to signed integers faster


Linear = Callable[..., _Linear | _Int8Linear]


def tokens_together(encoder: PreTrainedModel) -> int:
    """Return how many tokens are read together: on the CPU as many as its cache holds a layer's states of."""
    fewest, most = TOKENS_TOGETHER
    on_cpu = encoder.device.type == "cpu"
    return min(max(fewest, CACHED_STATES // encoder.config.hidden_size), most) if on_cpu else most


class _Glu(nn.Module):
    """ModernBERT's feed-forward: GELU of one half of a product, times the other half."""

    def __init__(self, mlp: ModernBertMLP, linear: Linear) -> None:
        super().__init__()
        weights = mlp.Wi.weight.chunk(2)
        biases = (None, None) if mlp.Wi.bias is None else mlp.Wi.bias.chunk(2)
        self.up, self.gate = linear(weights[0], biases[0], "gelu"), linear(weights[1], biases[1])
        self.Wo = linear(mlp.Wo.weight, mlp.Wo.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.Wo(self.gate.combined(inputs, self.up(inputs), "mul"))


class _AddAndNorm(nn.Module):
    """The end of BERT's attention, and of its feed-forward: a product, what it is added to, and the norm of both."""

    def __init__(self, end: BertSelfOutput | BertOutput, linear: Linear) -> None:
        super().__init__()
        self.dense, self.norm = linear(end.dense.weight, end.dense.bias), end.LayerNorm

    def forward(self, inputs: Tensor, before: Tensor) -> Tensor:
        return self.norm(self.dense.combined(inputs, before, "add"))


@contextmanager
def packed(model: nn.Module, tokens: int = 0) -> Iterator[None]:
    """Let a model's linear layers be packed within the block; see `pack`.

    Narrow ones are too where MKL would use half the CPU and so many tokens are to be read that it pays.
    """
    swapped: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        if _suits(model) or (_may_pack(model) and mkl_halves() and tokens >= MANY_TOKENS):
            swapped.extend(_swaps(model))
        yield
    finally:
        for parent, name, original in reversed(swapped):
            setattr(parent, name, original)


def pack(model: nn.Module, linear: Linear = _Linear) -> None:
    """Pack a model's linear layers for good, where no gradient is asked for.

    Models on another device, of another precision than float32 or narrower than `NARROWEST` stay as they are.
    """
    if _suits(model):
        list(_swaps(model, linear))


def _swaps(model: nn.Module, linear: Linear = _Linear) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Put packed modules in place one after the other; yield each one's parent, name and the original."""
    gone: list[nn.Module] = []
    for parent in list(model.modules()):
        if any(parent is original for original in gone):
            continue
        for name, made in _packings(parent, linear):
            gone.append(getattr(parent, name))
            setattr(parent, name, made)
            yield parent, name, gone[-1]


def _suits(model: nn.Module) -> bool:
    return _may_pack(model) and is_wide(model)


def _may_pack(model: nn.Module) -> bool:
    first = next(model.parameters())
    able = first.dtype == torch.float32 or (first.dtype == torch.bfloat16 and has_bf16())
    return first.device.type == "cpu" and able and torch.backends.mkldnn.is_available()


def is_wide(model: nn.Module) -> bool:
    """Say whether a model's layers are wide enough that packed or rounded ones are faster, whatever the CPU."""
    widths = [module.in_features for module in model.modules() if type(module) is nn.Linear]
    return bool(widths) and min(widths) >= NARROWEST


def _packings(parent: nn.Module, linear: Linear) -> Iterator[tuple[str, nn.Module]]:
    """Yield what stands in for a module's children, by name."""
    if isinstance(parent, BertIntermediate) and _is_gelu(parent.dense, parent.intermediate_act_fn):
        yield "dense", linear(parent.dense.weight, parent.dense.bias, "gelu")
        yield "intermediate_act_fn", nn.Identity()
        return
    for name, child in list(parent.named_children()):
        if isinstance(child, ModernBertMLP) and _is_gelu(child.Wi, child.act):
            yield name, _Glu(child, linear)
        elif isinstance(child, BertSelfOutput | BertOutput) and type(child.dense) is nn.Linear:
            yield name, _AddAndNorm(child, linear)
        elif type(child) is nn.Linear and child.out_features > 1:
            yield name, linear(child.weight, child.bias)


def _is_gelu(linear: nn.Module, activation: nn.Module) -> bool:
    return type(linear) is nn.Linear and isinstance(activation, GELUActivation)


def bf16_pays(model: CrossEncoder) -> bool:
    """Whether layers as wide as a float32 model's are faster in bfloat16 on this CPU, by a short measurement."""
    first = next(model.parameters())
    if first.device.type != "cpu" or first.dtype != torch.float32 or not is_wide(model) or not has_bf16():
        return False
    widest = max(
        (module for module in model.modules() if type(module) is nn.Linear), key=lambda one: one.weight.numel()
    )
    weights = {dtype: widest.weight.detach().to(dtype) for dtype in (torch.bfloat16, torch.float32)}
    layers = {dtype: _Linear(weight, None) for dtype, weight in weights.items()}
    inputs = {dtype: torch.ones(TOKENS_TRIED, widest.in_features, dtype=dtype) for dtype in layers}
    return _seconds(layers[torch.bfloat16], inputs[torch.bfloat16]) < _seconds(
        layers[torch.float32], inputs[torch.float32]
    )


@torch.inference_mode()
def _seconds(layer: _Linear, inputs: Tensor) -> float:
    """The shortest of a few passes; the first one makes the kernel."""
    taken = []
    for _ in range(PASSES_TRIED):
        begin = time.perf_counter()
        layer(inputs)
        taken.append(time.perf_counter() - begin)
    return min(taken)


def in_bf16(model: CrossEncoder) -> CrossEncoder:
    """Return a packed copy for the CPU whose encoder computes in bfloat16 and adds up in float32, as its head does.

    Its scores are not those of training, so what it costs in quality is to be measured.
    """
    copied = copy.deepcopy(model).eval()
    copied.encoder.to(torch.bfloat16)
    pack(copied.encoder)
    return copied


def in_int8(model: CrossEncoder) -> CrossEncoder:
    """Return a copy for the CPU whose encoder multiplies 8-bit integers: weights by row, inputs by batch.

    Between products it computes in bfloat16 where the CPU does. Its scores are not those of training, so what it costs
    in quality is to be measured.
    """
    copied, kinds = copy.deepcopy(model).eval(), {nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
    with warnings.catch_warnings():  # torchao is to replace these one day
        warnings.simplefilter("ignore")
        if not (_suits(copied.encoder) and torch.cpu._is_vnni_supported()):  # without, oneDNN's sums could overflow
            copied.encoder = torch.ao.quantization.quantize_dynamic(copied.encoder, kinds)
            return copied
        pack(copied.encoder, _Rounder().linear)
        copied.encoder.to(torch.bfloat16 if has_bf16() else torch.float32)
        return copied
