"""What a user would pick instead of ours on a CPU: the same weights in PyTorch, ONNX Runtime and OpenVINO.

Each of them is given padded batches of pairs sorted by length, and as many pairs at a time as it is fastest with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from benchmarks import common
from rankscale_utils.machine.device import has_bf16
from rankscale_utils.models.cross_encoder import CrossEncoder

Batch = Mapping[str, np.ndarray]  # what a tokenizer makes of some pairs, by name: each (pairs, tokens)
Engine = Callable[[Batch], np.ndarray]  # raw scores (pairs,)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET = 17
ONNX, OPENVINO = ("onnx", "onnxruntime"), ("onnx", "openvino")  # the packages
CALIBRATED = 64  # pairs from which OpenVINO's integers take the range of activations


class Whole(nn.Module):
    """A cross-encoder as one graph of padded batches, with transformers' own attention; it uses the model up."""

    def __init__(self, model: CrossEncoder) -> None:
        """Take encoder and head."""
        super().__init__()
        self.encoder, self.head = model.encoder, model.head
        self.reads, self.segments = model.reads, model.reads_segments
        self.encoder.set_attn_implementation("sdpa")

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return raw scores (pairs,) of ids, mask and segments, each (pairs, tokens)."""
        segments = {"token_type_ids": token_type_ids} if self.segments else {}
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **segments).last_hidden_state
        if self.reads == "cls":
            return self.head(states[:, 0]).squeeze(-1)
        read = attention_mask * (1 - token_type_ids) if self.reads == "query" else attention_mask
        weights = read.unsqueeze(-1).to(states.dtype)
        return self.head((states * weights).sum(1) / weights.sum(1)).squeeze(-1)


class Given(NamedTuple):
    """What an alternative is made of: copies of the model, a folder of its own, and batches of one pair."""

    copied: Callable[[], CrossEncoder]
    folder: Path
    batches: Sequence[Batch]

    def graph(self) -> Path:
        """Return the model as an ONNX graph of batches of any size and length, written once."""
        path = self.folder / "model.onnx"
        if not path.exists():
            example = tuple(torch.from_numpy(self.batches[0][name]) for name in INPUTS)
            axes = {name: {0: "pairs", 1: "tokens"} for name in INPUTS} | {"scores": {0: "pairs"}}
            settings = {"input_names": list(INPUTS), "output_names": ["scores"], "dynamic_axes": axes}
            model = Whole(self.copied()).eval()  # `dynamo` would need one more package
            torch.onnx.export(model, example, path, **settings, opset_version=OPSET, dynamo=False)
        return path


def padded(reader: PreTrainedTokenizerBase, texts: Sequence[tuple[str, str]], size: int) -> list[tuple[Any, Batch]]:
    """Return pairs in padded batches of so many, the shortest first: each batch's places, and what was read of it."""
    queries, documents = map(list, zip(*texts, strict=True))
    read = reader(queries, documents, truncation="only_second", max_length=common.TOKENS)
    order = np.argsort([len(ids) for ids in read["input_ids"]], kind="stable")
    groups = [order[begin : begin + size] for begin in range(0, len(order), size)]
    return [(places, _batch(reader, read, places)) for places in groups]


def _batch(reader: PreTrainedTokenizerBase, read: Mapping[str, list[list[int]]], places: np.ndarray) -> Batch:
    chosen = {name: [read[name][place] for place in places] for name in read}
    batch = dict(reader.pad(chosen, return_tensors="np"))
    return {"token_type_ids": np.zeros_like(batch["input_ids"])} | batch  # ModernBERT's tokenizers make none


def scores(engine: Engine, reader: PreTrainedTokenizerBase, size: int, texts: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the scores of pairs in words, in the order given: (pairs,)."""
    made = np.empty(len(texts), np.float32)
    for places, batch in padded(reader, texts, size):
        made[places] = engine(batch)
    return made


def _plain(given: Given, dtype: torch.dtype) -> Engine:
    model = Whole(given.copied()).eval().to(common.DEVICE, dtype)

    @torch.inference_mode()
    def score(batch: Batch) -> np.ndarray:
        return model(*(torch.from_numpy(batch[name]).to(common.DEVICE) for name in INPUTS)).float().cpu().numpy()

    return score


def _onnx_runtime(given: Given, int8: bool = False) -> Engine:
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = given.graph()
    if int8:
        graph = graph.with_suffix(".int8.onnx")
        quantize_dynamic(given.graph(), graph, weight_type=QuantType.QInt8, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda batch: session.run(None, {name: batch[name] for name in names})[0]


def _openvino(given: Given, precision: str, int8: bool = False) -> Engine:
    import openvino

    core = openvino.Core()
    graph = core.read_model(given.graph())
    names = [each.any_name for each in graph.inputs]
    if int8:
        import nncf

        calibrated = nncf.Dataset([{name: batch[name] for name in names} for batch in given.batches])
        graph = nncf.quantize(graph, calibrated, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(given.batches))
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    request = core.compile_model(graph, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    return lambda batch: request.infer([batch[name] for name in names])[0].copy()


@dataclass(frozen=True)
class Alternative:
    """A way to score: what makes its engine, the packages that it needs, and whether this CPU can."""

    name: str
    numbers: str  # in which it computes
    made: Callable[[Given], Engine]
    packages: tuple[str, ...] = ()
    possible: Callable[[], bool] = lambda: True

    def hindrance(self) -> str:
        """Return why it cannot run here; nothing if it can."""
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            return f"not installed: {', '.join(missing)}"
        return "" if self.possible() else f"this CPU has no {self.numbers}"


def alternatives() -> list[Alternative]:
    """Return what is timed beside ours on this device, besides sentence-transformers."""
    if common.DEVICE.type != "cpu":
        return [Alternative("plain loop", common.precision(), lambda given: _plain(given, common.DTYPE))]
    return [
        Alternative("plain loop", "float32", lambda given: _plain(given, torch.float32)),
        Alternative("plain loop", "bf16", lambda given: _plain(given, torch.bfloat16), possible=has_bf16),
        Alternative("ONNX Runtime", "float32", _onnx_runtime, ONNX),
        Alternative("ONNX Runtime, dynamic", "int8", lambda given: _onnx_runtime(given, int8=True), ONNX),
        Alternative("OpenVINO", "float32", lambda given: _openvino(given, "f32"), OPENVINO),
        Alternative("OpenVINO", "bf16", lambda given: _openvino(given, "bf16"), OPENVINO, has_bf16),
        Alternative("OpenVINO by NNCF", "int8", lambda given: _openvino(given, "f32", True), (*OPENVINO, "nncf")),
    ]
