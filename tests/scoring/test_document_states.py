import json
import shutil

import numpy as np
import pytest
import torch

from rankscale_utils.collections.tokens import Texts
from rankscale_utils.models.ed2lm import Ed2lmError
from rankscale_utils.scoring import document_states
from rankscale_utils.scoring.decoder import DecoderScorer
from rankscale_utils.scoring.document_states import StoreError, encode_collection, open_states
from tests.models.ed2lm_models import LONGEST, padded, tiny

LENGTHS = [9, 24, 1, 10, 23, 9, 2]
WANTED = np.array([4, 2, 5, 1, 0])
QUERY = padded([6], seed=3)[0][0]


def texts(lengths=LENGTHS, seed=1):
    ids, mask = padded(lengths, seed)
    return Texts(ids[mask == 1].numpy().astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))


@pytest.fixture(scope="module")
def model():
    return tiny("v1.1")


def everything(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".lock." not in path.name
    }


def in_full(model, pooling=1):
    ids, mask = padded(LENGTHS)
    query = QUERY.expand(len(WANTED), -1)
    with torch.no_grad():
        return model(ids[WANTED], mask[WANTED], query, torch.ones_like(query), pooling).scores("both")


@pytest.mark.parametrize(
    ("precision", "content", "way", "away"),
    [
        ("float32", "states", "absorbed", 1e-5),
        ("float32", "states", "on_the_fly", 1e-5),
        ("float32", "keys_values", "stored", 1e-5),
        ("float16", "states", "absorbed", 3e-3),
        ("float16", "keys_values", "stored", 3e-3),
        ("int8", "states", "absorbed", 6e-2),
        ("int8", "keys_values", "stored", 6e-2),
    ],
)
@pytest.mark.parametrize("pooling", [1, 4])
def test_scores_from_a_store_are_the_full_models(model, tmp_path, monkeypatch, precision, content, way, away, pooling):
    monkeypatch.setattr(document_states, "TOKENS_TOGETHER", 30)  # several batches
    store = encode_collection(model, texts(), tmp_path, precision, pooling, content)
    candidates = store.read(WANTED)
    assert len(candidates.groups) > 1
    errors = (DecoderScorer(model, way).score(QUERY, candidates, "both") - in_full(model, pooling)).abs()
    assert errors.max() < away
    if precision != "float32":
        assert errors.max() > 1e-6


def test_int8_rows_are_rounded_to_the_nearest_step_of_their_token(model, tmp_path):
    for content in ("states", "keys_values"):
        exact, small = (encode_collection(model, texts(), tmp_path, p, content=content) for p in ("float32", "int8"))
        error = np.abs(small.rows * small.scales[..., None] - exact.rows)
        assert (error <= small.scales[..., None] * 0.501).all()
        assert np.abs(small.rows).max(-1).min() == 127


def test_documents_of_like_length_are_one_group_and_of_equal_length_have_no_mask(model, tmp_path):
    store = encode_collection(model, texts(), tmp_path, "float32")
    like, equal = store.read(np.array([1, 4])), store.read(np.array([0, 5]))
    assert [group.parts.shape for group in like.groups] == [(1, 2, 24, 24)]
    assert like.groups[0].mask[:, 0, 0].sum(1).tolist() == [24, 23]
    assert [group.mask for group in equal.groups] == [None]
    assert sorted(store.read(WANTED).order.tolist()) == list(range(5))


def test_candidates_move_whole(model, tmp_path):
    moved = encode_collection(model, texts(), tmp_path).read(np.array([0, 5, 1, 4])).to("meta")
    tensors = [moved.order, *(tensor for group in moved.groups for tensor in group if tensor is not None)]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 4


def test_the_manifest_tells_the_stores_size(model, tmp_path):
    store = encode_collection(model, texts(), tmp_path, "float16", pooling=4)
    rows = sum(-(-length // 4) for length in LENGTHS)
    assert store.rows.shape == (rows, 1, 24)
    assert isinstance(store.rows, np.memmap)
    manifest = store.manifest
    assert manifest["bytes"] == {"rows.npy": 128 + rows * 24 * 2, "starts.npy": 128 + 8 * 8}
    assert manifest["bytes_per_document"] == round(sum(manifest["bytes"].values()) / 7)
    assert (manifest["pooling"], manifest["precision"], manifest["documents"]) == (4, "float16", 7)


def test_a_collection_is_encoded_once_and_every_choice_has_its_own_folder(model, tmp_path, monkeypatch):
    encode_collection(model, texts(), tmp_path)
    before = everything(tmp_path)
    for choice in ({"precision": "int8"}, {"pooling": 2}, {"content": "keys_values"}):
        encode_collection(model, texts(), tmp_path, **choice)
    encode_collection(tiny("v1.1", seed=1), texts(), tmp_path)
    encode_collection(model, texts(seed=2), tmp_path)
    assert len(list(tmp_path.glob("states-*/manifest.json"))) == 6
    monkeypatch.setattr(document_states, "_write", lambda *_: pytest.fail("encoded again"))
    encode_collection(model, texts(), tmp_path)
    assert everything(tmp_path).items() >= before.items()


def test_a_store_that_was_interrupted_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(document_states, "_describe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encode_collection(model, texts(), tmp_path)
    assert not list(tmp_path.glob("states-*/"))
    assert len(encode_collection(model, texts(), tmp_path).starts) == 8


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "holds no document states: encode the collection"),
        (lambda folder: (folder / "rows.npy").open("r+b").truncate(900), "is truncated, rows.npy had"),
        (lambda folder: (folder / "starts.npy").unlink(), "is truncated, starts.npy had"),
    ],
)
def test_a_broken_store_is_refused_and_left_alone_until_it_is_encoded_again(model, tmp_path, spoil, reason):
    whole = np.array(encode_collection(model, texts(), tmp_path).rows)
    (folder,) = tmp_path.glob("states-*/")
    spoil(folder)
    before = everything(folder)
    with pytest.raises(StoreError, match=reason):
        open_states(folder, model, texts())
    assert everything(folder) == before
    again = encode_collection(model, texts(), tmp_path)
    assert np.array_equal(again.rows, whole)


def test_a_store_of_other_weights_or_another_text_is_refused(model, tmp_path):
    encode_collection(model, texts(), tmp_path)
    (folder,) = tmp_path.glob("states-*/")
    with pytest.raises(StoreError, match="other weights than this model's"):
        open_states(folder, tiny("v1.1", seed=1), texts())
    with pytest.raises(StoreError, match="another text than these documents"):
        open_states(folder, model, texts(seed=2))
    moved = texts()
    moved.starts[1] += 1  # the same tokens, divided otherwise
    with pytest.raises(StoreError, match="another text than these documents"):
        open_states(folder, model, moved)
    assert len(open_states(shutil.copytree(folder, tmp_path / "copy"), model, texts()).starts) == 8


def test_a_pooling_the_model_was_not_trained_for_is_refused(model, tmp_path):
    with pytest.raises(Ed2lmError, match="not trained for a pooling of 8"):
        encode_collection(model, texts(), tmp_path, pooling=8)
    assert not list(tmp_path.iterdir())
    encode_collection(model, texts(), tmp_path, pooling=4)
    (folder,) = tmp_path.glob("states-*/")
    with pytest.raises(Ed2lmError, match="not trained for a pooling of 4 tokens: choose one of 1"):
        open_states(folder, tiny("v1.1", poolings=(1,)), texts())


def test_documents_that_do_not_fit_are_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(Ed2lmError, match="a document has 25 tokens and the model takes 24"):
        encode_collection(model, texts([3, LONGEST + 1]), tmp_path)
    with pytest.raises(StoreError, match="document 1 has no tokens"):
        encode_collection(model, texts([3, 0, 2]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_states_that_leave_float16_are_refused(tmp_path):
    loud = tiny("v1.1")
    with torch.no_grad():
        loud.t5.encoder.final_layer_norm.weight.fill_(1e6)
    with pytest.raises(StoreError, match="leaves float16's range: store int8 or float32"):
        encode_collection(loud, texts(), tmp_path)
    assert not list(tmp_path.glob("states-*/"))
    assert np.isfinite(encode_collection(loud, texts(), tmp_path, "int8").scales).all()


def test_the_manifest_is_readable(model, tmp_path):
    encode_collection(model, texts(), tmp_path, "int8")
    (manifest,) = tmp_path.glob("states-*/manifest.json")
    assert set(json.loads(manifest.read_text())) >= {"weights", "text", "pooling", "precision", "content", "bytes"}
