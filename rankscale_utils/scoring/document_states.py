"""Stored document states: what ED2LM's encoder says of every document, written once and read memory-mapped.

A store is a folder named after the weights and the text that made it: rows.npy (rows, parts, width), one row for each
token or pooled group of tokens; starts.npy (documents + 1,); scales.npy (rows, parts) beside int8 rows;
manifest.json. A part is the state, or each layer's keys and values.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rankscale_utils.collections.batching import of_like_length
from rankscale_utils.collections.tokens import Texts
from rankscale_utils.machine.files import cached_folder, digest, read_json, write_json
from rankscale_utils.models.ed2lm import Ed2lm

from .cross_attention import CandidateGroup, Candidates
from .decoder import project

Precision = Literal["float32", "float16", "int8"]
Content = Literal["states", "keys_values"]
TOKENS_TOGETHER = 8192  # of the encoder, padding included
LIKE = 1.15  # documents of a group differ in length by less than this factor


class StoreError(ValueError):
    """A store cannot be written or read as asked; the message says why and what to do."""


def weights_hash(model: Ed2lm) -> str:
    """SHA-256 of every parameter's name and values, 16 hex digits."""
    named = model.named_parameters()  # tied tensors come once
    held = ((name, tensor.detach().cpu().view(torch.uint8).numpy().tobytes()) for name, tensor in named)
    return digest(*(digest(*one) for one in held), length=16)


def text_hash(texts: Texts) -> str:
    """SHA-256 of every document's token ids and where it begins, 16 hex digits."""
    return digest(np.ascontiguousarray(texts.ids).tobytes(), np.ascontiguousarray(texts.starts).tobytes(), length=16)


@dataclass(frozen=True)
class DocumentStates:
    """An open store. rows: (rows, parts, width); starts: (documents + 1,); scales: (rows, parts) of int8 rows."""

    manifest: dict
    rows: np.ndarray
    starts: np.ndarray
    scales: np.ndarray | None

    def read(self, documents: np.ndarray, dtype: torch.dtype = torch.float32) -> Candidates:
        """Return the states of documents (K,), in groups of like length, as numbers of `dtype`."""
        lengths = self.starts[documents + 1] - self.starts[documents]
        kinds = np.ceil(np.log(lengths) / np.log(LIKE)).astype(int)
        chosen = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
        groups = [self._group(self.starts[documents[places]], lengths[places], dtype) for places in chosen]
        return Candidates(groups, torch.from_numpy(np.concatenate(chosen)))

    def _group(self, starts: np.ndarray, lengths: np.ndarray, dtype: torch.dtype) -> CandidateGroup:
        """Return a group; a short document's padding repeats its own last row, which the mask hides."""
        place = np.arange(lengths.max())
        taken = starts[:, None] + np.minimum(place, lengths[:, None] - 1)
        parts = torch.from_numpy(self.rows[taken]).permute(2, 0, 1, 3)  # (parts, k, longest, width)
        parts = parts.to(dtype, memory_format=torch.contiguous_format).contiguous()
        if self.scales is not None:
            parts.mul_(torch.from_numpy(self.scales[taken]).permute(2, 0, 1).to(dtype).unsqueeze(-1))
        mask = torch.from_numpy(place < lengths[:, None])[:, None, None] if lengths.min() < lengths.max() else None
        return CandidateGroup(parts, mask)


def encode_collection(
    model: Ed2lm,
    texts: Texts,
    root: Path,
    precision: Precision = "float16",
    pooling: int = 1,
    content: Content = "states",
) -> DocumentStates:
    """Return the store of all documents under `root`, first encoding them where there is none, or a damaged one.

    content: document states, or every layer's keys and values, which are 2·layers·heads·c/d times as large.

    Raises:
        Ed2lmError: a document is longer, or the pooling is another, than the model is trained for.
        StoreError: a document is empty, or its states leave float16's range.
    """
    lengths = np.diff(texts.starts)
    model.setting.check(int(lengths.max()), pooling)
    if not lengths.all():
        raise StoreError(f"document {int(lengths.argmin())} has no tokens: give every document an end token.")
    made_of = {"weights": weights_hash(model), "text": text_hash(texts), "pooling": pooling}
    made_of |= {"precision": precision, "content": content}
    folder = Path(root) / f"states-{digest(made_of, length=16)}"
    cached_folder(folder, lambda temporary: _write(temporary, model, texts, made_of))
    return open_states(folder, model, texts)


def open_states(folder: Path, model: Ed2lm, texts: Texts) -> DocumentStates:
    """Return a store, memory-mapped, for this model to read these documents from.

    Raises:
        StoreError: the folder holds no store, part of one, or that of other weights or another text.
        Ed2lmError: the model was not trained for the store's pooling.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").is_file():
        raise StoreError(f"{folder} holds no document states: encode the collection.")
    manifest = read_json(folder / "manifest.json")
    for name, size in manifest["bytes"].items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise StoreError(f"{folder} is truncated, {name} had {size:,} bytes: delete the store and encode again.")
    if manifest["weights"] != weights_hash(model):
        raise StoreError(f"{folder} was made by other weights than this model's: encode the collection with these.")
    if manifest["text"] != text_hash(texts):
        raise StoreError(f"{folder} was made of another text than these documents: encode these.")
    model.setting.check(0, manifest["pooling"])
    arrays = {name: np.load(folder / name, mmap_mode="r") for name in manifest["bytes"]}
    return DocumentStates(manifest, arrays["rows.npy"], np.array(arrays["starts.npy"]), arrays.get("scales.npy"))


def _write(folder: Path, model: Ed2lm, texts: Texts, made_of: dict) -> None:
    """Fill `folder` with the states of all documents and, last, the manifest."""
    lengths, pooling = np.diff(texts.starts), made_of["pooling"]
    starts = np.concatenate([[0], np.cumsum(-(-lengths // pooling))])
    config = model.t5.config
    parts, width = 1, config.d_model
    if made_of["content"] == "keys_values":
        parts, width = 2 * config.num_decoder_layers, config.num_heads * config.d_kv
    small = made_of["precision"] == "int8"
    rows = _new(folder / "rows.npy", (starts[-1], parts, width), made_of["precision"])
    scales = _new(folder / "scales.npy", (starts[-1], parts), "float32") if small else None
    for documents in of_like_length(lengths, TOKENS_TOGETHER):
        states, mask = _encoded(model, texts, documents, made_of)
        place = np.arange(mask.shape[1])
        filled = (starts[documents][:, None] + place)[mask]
        values = states[torch.from_numpy(mask)]
        if small:
            scale = values.abs().amax(-1).clamp(min=1e-30) / 127
            scales[filled] = scale.numpy()
            values = (values / scale.unsqueeze(-1)).round()
        if made_of["precision"] == "float16" and values.abs().max() > torch.finfo(torch.float16).max:
            raise StoreError("a document state leaves float16's range: store int8 or float32.")
        rows[filled] = values.numpy()
    np.save(folder / "starts.npy", starts)
    for array in (rows, scales):
        if array is not None:
            array.flush()
    _describe(folder, made_of, len(lengths))


def _describe(folder: Path, made_of: dict, documents: int) -> None:
    """Write the manifest: what made the store, its documents, and its size in bytes, in all and per document."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.npy"))}
    size = {"documents": documents, "bytes": sizes, "bytes_per_document": round(sum(sizes.values()) / documents)}
    write_json(folder / "manifest.json", made_of | size)


def _new(path: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Return a new memory-mapped .npy file."""
    return np.lib.format.open_memmap(path, "w+", np.dtype(dtype), tuple(int(n) for n in shape))


@torch.inference_mode()
def _encoded(model: Ed2lm, texts: Texts, documents: np.ndarray, made_of: dict) -> tuple[Tensor, np.ndarray]:
    """Return the rows of documents (k, longest, parts, width) and which of them are no padding (k, longest)."""
    lengths = texts.lengths(documents)
    place = np.arange(lengths.max())
    taken = texts.starts[documents][:, None] + np.minimum(place, lengths[:, None] - 1)
    ids = torch.from_numpy(texts.ids[taken].astype(np.int64))
    mask = torch.from_numpy((place < lengths[:, None]).astype(np.int64))
    states, mask = model.encode(ids, mask, made_of["pooling"])
    rows = project(model, states) if made_of["content"] == "keys_values" else states.unsqueeze(2)
    return rows.float().cpu(), mask.bool().cpu().numpy()
