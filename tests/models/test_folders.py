"""Folders as people bring them, of every kind of model: each is read, or refused in one sentence before any work.

The table of docs/models.md says which; these tests hold it to that.
"""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rankscale_utils.errors import StudyError
from rankscale_utils.models.build import build_model
from rankscale_utils.models.checks import check_pretrained
from rankscale_utils.models.published import read_published
from rankscale_utils.study.t5 import T5Settings
from tests.conftest import TINY
from tests.models.documented import table
from tests.models.test_refused_models import refused
from tests.models.tiny import save_encoder, save_t5
from tests.models.tiny_decoders import save_decoder
from tests.scoring.test_published import save_bi_encoder

SAVED = {  # a folder's kind of model, by what it becomes in a study
    "cross-encoder": partial(save_encoder, architecture="roberta", width=16, reranker=True),
    "decoder": partial(save_decoder, architecture="qwen3", width=16, head=True),
    "bi-encoder": partial(save_encoder, architecture="bert", width=16),
    "ED2LM": partial(save_t5, width=16),
    "reranker": partial(save_encoder, architecture="bert", width=16, reranker=True),
    "sentence-transformers": lambda folder: save_bi_encoder(folder.parent).rename(folder),
    "T5": partial(save_t5, width=16),
}
RUNGS = {"cross-encoder": "listwise", "decoder": "listwise", "bi-encoder": "contrastive", "ED2LM": "true_false"}
SENTENCES = {  # what is said of a folder that is refused
    "its tokenizer has no pad token": r"its tokenizer has no pad token: name one",
    "its head has two labels": r"its head has 2 labels, and a reranker gives one|is a t5 model that writes nothing",
    "its weights have another shape": r"its weights cannot be read \(",
    "texts longer than its positions": r"reads \d+ tokens at most: lower",
}
LONGER = 300  # tokens, than any of these models has positions


def without_pad(folder: Path) -> None:
    """Take the pad token out of a tokenizer's files."""
    for path in (folder / name for name in ("tokenizer_config.json", "special_tokens_map.json")):
        if path.exists():
            fields = {name: value for name, value in json.loads(path.read_text()).items() if name != "pad_token"}
            path.write_text(json.dumps(fields))


def without_chat_template(folder: Path) -> None:
    """Take a tokenizer's chat template away."""
    assert not list(folder.glob("chat_template*"))
    assert "chat_template" not in json.loads((folder / "tokenizer_config.json").read_text())


def of_other_shape(folder: Path) -> None:
    """Let a configuration name wider layers than the weights have."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    wider = "d_ff" if "d_ff" in config else "intermediate_size"
    path.write_text(json.dumps(config | {wider: config[wider] + 2}))


def with_two_labels(folder: Path) -> None:
    """Let a configuration say that the model is a classifier of two labels."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    kind = re.sub("For.*|(?<!For)Model$", "", config["architectures"][0]) + "ForSequenceClassification"
    labels = {"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}}
    path.write_text(json.dumps(config | {"architectures": [kind]} | labels))


def as_pickle(folder: Path) -> None:
    """Store weights as older files do."""
    path = folder / "model.safetensors"
    torch.save(load_file(path), folder / "pytorch_model.bin")
    path.unlink()


def in_shards(folder: Path) -> None:
    """Store weights in two files with an index."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    places = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file, {"format": "pt"})
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    path.unlink()


CHANGES = {
    "weights in `pytorch_model.bin`": as_pickle,
    "weights in several files": in_shards,
    "no chat template": without_chat_template,
    "its tokenizer has no pad token": without_pad,
    "its head has two labels": with_two_labels,
    "its weights have another shape": of_other_shape,
    "texts longer than its positions": lambda folder: None,
}


def documented() -> dict[tuple[str, str], str]:
    """Return what the documentation says of every change and kind: read, refused or – where there is no such thing."""
    (_, *kinds), *rows = table("a folder whose …")
    return {(change, kind): cell for change, *cells in rows for kind, cell in zip(kinds, cells, strict=True)}


DOCUMENTED = documented()


def test_the_documentation_speaks_of_every_change_and_kind():
    assert set(DOCUMENTED) == {(change, kind) for change in CHANGES for kind in SAVED}
    assert set(DOCUMENTED.values()) == {"read", "refused", "–"}


@pytest.fixture
def study_of(new_study):
    """Return what makes a study whose four rungs are one folder."""

    def made(folder, kind, longest):
        return new_study(
            architecture=None,
            family={"ED2LM": "ed2lm", "bi-encoder": "bi_encoder"}.get(kind, "cross_encoder"),
            ladder={name: str(folder) for name in ("a", "b", "c", "d")},
            held_out={"rungs": ["d"]},
            objectives={RUNGS[kind]: {"learning_rate": {"base": 1e-3}}},
            training=TINY["training"],
            text={"query_tokens": None, "pair_tokens": longest},
            evaluation=TINY["evaluation"] | {"negatives": 50},
        )

    return made


@pytest.mark.parametrize(("change", "kind"), [cell for cell, said in DOCUMENTED.items() if said != "–"])
def test_a_folder_is_read_or_refused_as_the_documentation_says(study_of, tmp_path, change, kind):
    folder = tmp_path / "params" / "model"
    SAVED[kind](folder)
    longest = LONGER if change == "texts longer than its positions" else 60
    if kind in RUNGS:
        study = study_of(folder, kind, longest)
        weights = lambda: build_model(study, study.run(f"{RUNGS[kind]}-a-s0"), 0).state_dict()  # noqa: E731
        read = lambda: check_pretrained(study)  # noqa: E731
    else:
        t5 = T5Settings() if kind == "T5" else None
        longest = longest if change == "texts longer than its positions" else None
        read = lambda: read_published("systems.theirs", str(folder), longest, t5=t5).model.state_dict()  # noqa: E731
        weights = read
    if DOCUMENTED[change, kind] == "refused":
        CHANGES[change](folder)
        if kind in RUNGS:
            refused(study, SENTENCES[change])
            return
        with pytest.raises(StudyError, match=SENTENCES[change]) as caught:
            read()
        assert "\n" not in str(caught.value)
        return
    before = weights() if change.startswith("weights") else None
    CHANGES[change](folder)
    read()
    if before:
        after = weights()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
