"""The JSON files of a model's folder hold what is read of them, or one sentence says which does not."""

import json

import pytest

from rankscale_utils.errors import StudyError
from rankscale_utils.models.own_layers import makes_embeddings, read_own_layers
from rankscale_utils.models.prompts import prompts_of
from rankscale_utils.models.source import of_transformer

MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
OF_FOLDER = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("name", "held", "read", "why"),
    [
        (OF_FOLDER, {"prompts": ["query: "]}, prompts_of, r"prompts is \['query: '\]: Input should be a valid dict"),
        (OF_FOLDER, {"prompts": {"query": 3}}, prompts_of, "prompts.query is 3: Input should be a valid string"),
        (OF_FOLDER, ["prompts"], prompts_of, r"all of it is \['prompts'\]: Input should be a valid dict"),
        ("modules.json", {"0": MODULES[0]}, makes_embeddings, "all of it is .*: Input should be a valid list"),
        ("modules.json", [{"type": "Pooling"}], makes_embeddings, "0.path is .*: Field required"),
        ("sentence_bert_config.json", {"max_seq_length": "512"}, of_transformer, "max_seq_length is '512': Input"),
        (OF_FOLDER, "{", prompts_of, "Expecting property name"),
    ],
)
def test_a_file_of_another_shape_is_one_sentence(tmp_path, name, held, read, why):
    (tmp_path / "modules.json").write_text(json.dumps(MODULES))
    (tmp_path / name).write_text(held if isinstance(held, str) else json.dumps(held))
    with pytest.raises(
        StudyError, match=rf"^'{tmp_path}': its {name} cannot be read \({why}.*\): fetch the model again\.$"
    ):
        read(str(tmp_path))


def test_a_dense_layer_without_its_width_is_one_sentence(tmp_path):
    listed = [*MODULES, {"type": "x.Pooling", "path": "1"}, {"type": "x.Dense", "path": "2"}]
    (tmp_path / "modules.json").write_text(json.dumps(listed))
    for folder, held in {"1": {"pooling_mode_mean_tokens": True}, "2": {"in_features": 8}}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(held))
    with pytest.raises(StudyError, match=r"its 2/config.json cannot be read \(out_features is .*: Field required\)"):
        read_own_layers("ladder.a", str(tmp_path), None)


def test_nothing_is_asked_of_what_is_not_read(tmp_path):
    (tmp_path / OF_FOLDER).write_text(json.dumps({"prompts": {"query": "q: ", "web": None}, "own": [1]}))
    assert prompts_of(str(tmp_path)) == ("q: ", "")
