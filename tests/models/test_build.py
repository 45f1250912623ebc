import os
from collections import Counter

import huggingface_hub
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

from rankscale_utils.collections import open_collection
from rankscale_utils.collections.tokens import study_tokenizer
from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import read_json
from rankscale_utils.models.build import build_model, count_rung
from rankscale_utils.models.checkpoint import load_checkpoint, save_checkpoint
from rankscale_utils.models.checks import check_pretrained
from rankscale_utils.models.counts import parameters
from rankscale_utils.pipeline.prepare import main as prepare_main
from rankscale_utils.pipeline.prepare import prepare
from rankscale_utils.study import paths
from rankscale_utils.training.run import train
from tests.models.tiny import save_pretrained

# arXiv 2603.04816's ladder: layers, hidden, MLP, heads; non-embedding, embedding and all parameters in millions.
ETTIN = {
    "17m": (7, 256, 384, 4, 3.903, 12.894, 16.797),
    "32m": (10, 384, 576, 6, 12.542, 19.341, 31.883),
    "68m": (19, 512, 768, 8, 42.356, 25.788, 68.145),
    "150m": (22, 768, 1152, 12, 110.332, 38.683, 149.014),
    "400m": (28, 1024, 2624, 16, 343.205, 51.577, 394.782),
    "1b": (28, 1792, 3840, 28, 937.791, 90.259, 1028.051),
}
QUERIES = ["count the apples", "pear", "naïve plum words"]
DOCUMENTS = ["a document of some length, with commas and apples", "pear " * 60, "plum", "count count apple, naïve ☃"]


@pytest.fixture
def pretrained_study(new_study, tmp_path):
    """Return what writes a study of four tiny pretrained rungs of an architecture."""

    def write(architecture, **changes):
        widths = (8, 12, 16, 24)
        for width in widths:
            save_pretrained(tmp_path / "params" / f"w{width}", architecture, width)
        fields = {"ladder": {f"w{width}": f"w{width}" for width in widths}, "held_out": {"rungs": ["w24"]}}
        return new_study(**{"architecture": None, **fields, **changes})

    return write


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_rungs_model_has_its_shape(new_study, architecture):
    shape = {"hidden": 12, "layers": 3, "heads": 3, "intermediate": 20}
    study = new_study(architecture=architecture, ladder=new_study().model_dump()["ladder"] | {"w12": shape})
    config = build_model(study, study.run("listwise-w12-s0"), 300).encoder.config
    assert config.model_type == architecture
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (12, 3, 3)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (20, 300, 48)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_the_ladder_rises(new_study, architecture):
    study = new_study(architecture=architecture)
    counts = [parameters(build_model(study, study.run(f"listwise-{rung}-s0"), 300)) for rung in study.ladder]
    assert [c.total for c in counts] == sorted({c.total for c in counts})
    assert [c.non_embedding for c in counts] == sorted({c.non_embedding for c in counts})
    assert counts == [count_rung(study, "cross_encoder", rung, 300) for rung in study.ladder]


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_training_has_no_hidden_randomness(new_study, architecture):
    # No dropout: what a run sees and starts from decides its weights.
    study = new_study(architecture=architecture)
    model = build_model(study, study.run("listwise-w8-s0"), 300).train()
    torch.nn.init.normal_(model.head.weight)
    ids = torch.arange(4, 24)[None]
    types = (torch.arange(20) > 8).long()[None]
    first, second = (model(ids, torch.ones_like(ids), types) for _ in range(2))
    assert torch.equal(first, second)


def test_ettins_ladder_has_the_published_counts(new_study, monkeypatch):
    study = new_study(architecture=None, ladder="ettin", held_out={"rungs": ["1b"]})
    assert study.pretrained == {size: f"jhu-clsp/ettin-encoder-{size}" for size in ETTIN}

    def read_config(field, source, _):
        rung = field.removeprefix("ladder.")
        assert source == f"jhu-clsp/ettin-encoder-{rung}"
        layers, hidden, inner, heads, *_ = ETTIN[rung]
        shape = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": inner}
        return AutoConfig.for_model("modernbert", vocab_size=50_368, num_attention_heads=heads, **shape)

    monkeypatch.setattr("rankscale_utils.models.build.read_config", read_config)
    for rung, (_, hidden, *_, non_embedding, embedding, total) in ETTIN.items():
        counts = count_rung(study, "cross_encoder", rung, 50_280)
        head = hidden**2 + hidden + hidden + 1  # ModernBERT's: a layer, its norm, and the score
        outside = counts.non_embedding - head
        assert round(outside / 1e6, 3) == non_embedding
        assert round((counts.total - counts.non_embedding) / 1e6, 3) == embedding
        assert round((counts.total - head) / 1e6, 3) == total


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_pretrained_rung_starts_from_its_weights_and_a_random_head(pretrained_study, tmp_path, architecture):
    study = pretrained_study(architecture)
    folder = tmp_path / "params" / "w8"
    own = AutoModelForMaskedLM.from_pretrained(folder).base_model.state_dict()
    model = build_model(study, study.run("listwise-w8-s0"), 50)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, own[name])
    assert not [name for name in model.encoder.state_dict() if "pooler" in name]
    assert model.reads == "cls"
    assert model.head.classifier.classifier.weight.std() > 0.1  # as the configuration's initializer_range says
    assert count_rung(study, "cross_encoder", "w8", 50) == parameters(model)


def test_a_pretrained_rung_may_read_the_mean_of_the_querys_states(pretrained_study, tmp_path):
    rungs = {f"w{width}": f"w{width}" for width in (12, 16, 24)} | {"w8": {"pretrained": "w8", "reads": "query"}}
    study = pretrained_study("bert", ladder=rungs)
    check_pretrained(study)
    own = AutoModelForMaskedLM.from_pretrained(tmp_path / "params" / "w8").base_model.state_dict()
    model = build_model(study, study.run("listwise-w8-s0"), 50)
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.encoder.state_dict().items())
    assert (model.reads, model.head.in_features, model.head.bias.item()) == ("query", 8, 0)
    assert 0.005 < model.head.weight.std() < 0.05
    assert count_rung(study, "cross_encoder", "w8", 50) == parameters(model)
    assert "reads" not in study.settings_of(study.run("listwise-w12-s0"))["rung"]  # as before there was a choice


def test_weights_stored_in_bfloat16_are_trained_and_kept_in_float32(pretrained_study, tmp_path):
    study = pretrained_study("modernbert")
    save_pretrained(tmp_path / "params" / "w8", "modernbert", 8, dtype=torch.bfloat16)
    model = build_model(study, study.run("listwise-w8-s0"), 300)
    assert Counter(tensor.dtype for tensor in model.parameters()).keys() == {torch.float32}
    tokens = tmp_path / "tokens"
    tokens.mkdir()
    study_tokenizer(study, []).save(tokens)
    save_checkpoint(model, tmp_path / "checkpoint", tokens)
    again = AutoModel.from_pretrained(tmp_path / "checkpoint")
    assert Counter(tensor.dtype for tensor in again.parameters()).keys() == {torch.float32}


def test_a_list_of_folders_is_a_ladder_of_their_names(pretrained_study):
    study = pretrained_study("bert", ladder=["w8", "w12/", "./w16", "w24"])
    assert list(study.pretrained) == ["w8", "w12", "w16", "w24"]
    assert all(os.path.isdir(source) for source in study.pretrained.values())


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_gradient_checkpointing_leaves_the_gradients(new_study, architecture):
    study, gradients = new_study(architecture=architecture), []
    for checkpointing in (False, True):
        model = build_model(study, study.run("listwise-w8-s0"), 300).train()
        torch.nn.init.ones_(model.head.weight)
        if checkpointing:
            model.encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            assert model.encoder.is_activation_checkpointing
        ids = torch.arange(4, 44).view(2, 20)
        model(ids, torch.ones_like(ids), (torch.arange(20) > 8).long().expand(2, 20)).sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-5, atol=1e-7)


PRETRAINED = {"architecture": None, "ladder": "ettin", "held_out": {"rungs": ["1b"]}}
RATES = dict.fromkeys(ETTIN, 1e-4)


def objective(name="listwise", rate=None, **settings):
    return {"objectives": {name: {"learning_rate": rate or {"base": 1e-3}, **settings}}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ladder": "etin"}, r"ladder = 'etin': no ladder has that name: write ettin, or a list of ids or folders\."),
        ({"ladder": [{"hidden": 4}]}, r"ladder = .*: \[\{'hidden': 4\}\] are no ids or folders: write `name: "),
        ({"ladder": ["a/x", "b/x"]}, r"ladder = .*: \['x'\] name more than one rung: write `name: id` for each"),
        (
            {"ladder": {"x": {"hidden": 8, "reads": "query"}}},
            r"ladder\.x\.reads does not go with the fields beside it: ",
        ),
        (
            {"ladder": {"x": {"pretrained": "a/x", "hidden": 8}}},
            r"ladder\.x\.hidden does not go with the fields beside",
        ),
        ({"ladder": {"x": ""}}, r"ladder\.x\.pretrained = '': string should have at least 1 character"),
        (
            {"ladder": {"w4": {"hidden": 4}, "w6": {"hidden": 6}, "w8": {"hidden": 8}, "w12": "some/model"}},
            r"ladder = .*\['w4', 'w6', 'w8'\] are trained from scratch and \['w12'\] are pretrained.*: drop one side",
        ),
        (PRETRAINED | {"architecture": "bert"}, r"architecture = 'bert': pretrained rungs bring their own: remove the"),
        (
            PRETRAINED | objective(rate={"of": RATES | {"2b": 1e-4}}),
            r"listwise\.learning_rate\.of names .* but the rungs are .*: give a rate for each .* no other \(2b",
        ),
        (
            objective(rate={"of": {"w4": 1e-3, "w6": 1e-3, "w8": 1e-3}}),
            r"listwise\.learning_rate\.of names .* the rungs are .*: give a rate for each .* no other \(w12\)",
        ),
        (
            objective(rate={"of": {"w4": 2.0}}),
            r"listwise\.learning_rate\.of\.w4 = 2\.0: input should be less",
        ),
        (
            objective(rate={"power": 1}),
            r"learning_rate\.of = None: without base there is no rate: give base, or a rate",
        ),
        (
            objective(rate={"base": 1e-3, "of": RATES}),
            r"learning_rate\.of = .*: stands beside base = 0\.001: give",
        ),
        (
            objective("pairwise", temperature=0.5),
            r"pairwise\.temperature: only listwise and contrastive have a softmax to cool: remove",
        ),
        (objective(temperature=0), r"objectives\.listwise\.temperature = 0: input should be greater than 0"),
        (
            objective("margin_mse"),
            r"margin_mse learns from a teacher's scores: name a TREC run of them as collection\.",
        ),
    ],
)
def test_a_ladder_or_objective_that_cannot_be_is_refused_with_the_remedy(new_study, changes, sentence):
    with pytest.raises(StudyError, match=sentence) as caught:
        new_study(**changes)
    assert "\n" not in str(caught.value)


def test_every_rung_gets_the_rate_that_the_study_lists(new_study):
    rates = {size: rate for size, rate in zip(ETTIN, (2.4e-4, 1.2e-4, 3e-5, 1.5e-5, 7e-6, 3e-6), strict=True)}
    study = new_study(**PRETRAINED | objective(rate={"of": rates}))
    rule = study.objectives["listwise"].learning_rate
    assert {size: rule.at(size, hidden=256) for size in ETTIN} == rates
    assert new_study().objectives["listwise"].learning_rate.at("w8", 8) == 3e-3 * (8 / 32) ** -0.75


def offline(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def test_an_id_without_network_or_cache_is_refused_before_anything_is_made(new_study, monkeypatch):
    offline(monkeypatch)
    study = new_study(architecture=None, ladder="ettin", held_out={"rungs": ["1b"]})
    with pytest.raises(StudyError) as caught:
        prepare(study)
    message = str(caught.value)
    assert message.startswith("ladder.17m = 'jhu-clsp/ettin-encoder-17m': its configuration cannot be read (")
    assert "HF_HOME" in message
    assert "HF_HUB_OFFLINE=1" in message
    assert "local folder" in message
    assert "\n" not in message
    assert not study.folder.exists()


def test_preparing_says_what_lacks_in_one_sentence(pretrained_study, tmp_path, capsys):
    study = pretrained_study("bert")
    (tmp_path / "params" / "w12" / "config.json").unlink()
    capsys.readouterr()  # what transformers says when the weights are made
    assert prepare_main(str(study.source)) == 2
    said = capsys.readouterr().err
    assert said.startswith("rankscale: ladder.w12 = ")
    assert said.count("\n") == 1
    assert not (study.folder / "ladder.json").exists()


def test_missing_weights_are_refused_before_anything_is_made(pretrained_study, tmp_path):
    study = pretrained_study("bert")
    (tmp_path / "params" / "w16" / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"^ladder\.w16 = .*: its weights cannot be read \(.*local folder[^\n]*$"):
        prepare(study)
    assert not study.folder.exists()


def test_broken_weights_are_refused(pretrained_study, tmp_path):
    study = pretrained_study("bert")
    (tmp_path / "params" / "w12" / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(StudyError, match=r"^ladder\.w12 = .*: its weights cannot be read \([^\n]*$"):
        check_pretrained(study)
    save_pretrained(tmp_path / "params" / "w12", "bert", 12)
    config = AutoConfig.from_pretrained(tmp_path / "params" / "w12")
    config.intermediate_size += 2
    config.save_pretrained(tmp_path / "params" / "w12")
    with pytest.raises(StudyError, match=r"^ladder\.w12 = .*: its weights cannot be read \([^\n]*$"):
        check_pretrained(study)


def test_weights_of_another_model_are_refused(pretrained_study, tmp_path):
    study = pretrained_study("bert")
    folder = tmp_path / "params" / "w16"
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers += 1
    config.save_pretrained(folder)
    with pytest.raises(StudyError, match=r"^ladder\.w16 = .*its weights lack 16 tensors of a bert encoder"):
        check_pretrained(study)


def test_too_few_positions_or_embeddings_are_refused(pretrained_study):
    study = pretrained_study("bert", text={"query_tokens": 12, "pair_tokens": 65})
    with pytest.raises(StudyError, match=r"^text\.pair_tokens = 65: ladder\.w8 = .* reads 64 tokens at most: lower"):
        check_pretrained(study)
    study = pretrained_study("bert")
    with pytest.raises(StudyError, match=r"^ladder\.w8 = .*tokenizer has 5000 tokens and its model"):
        count_rung(study, "cross_encoder", "w8", 5000)


def test_a_pretrained_ladder_is_prepared_and_trained(pretrained_study):
    study = pretrained_study("modernbert")
    prepare(study)
    counts = read_json(study.folder / "ladder.json")["rungs"]["cross_encoder"]
    run, collection = study.run("listwise-w8-s0"), open_collection(study)
    start = build_model(study, run, collection.tokenizer().get_vocab_size())
    assert counts["w8"] == {
        "params": parameters(start).total,
        "params_non_embedding": parameters(start).non_embedding,
    }
    ledger = train(study, run, collection, torch.device("cpu"))
    assert ledger["status"] == "complete"
    assert ledger["learning_rate"] == pytest.approx(3e-3 * (8 / 32) ** -0.75)
    path = paths.checkpoint_file(study.run_folder(run), ledger["checkpoints"][-1]["exposure"])
    trained = load_checkpoint(build_model(study, run, collection.tokenizer().get_vocab_size()), path)
    heads = (model.head.classifier.classifier.weight for model in (trained, start))
    assert not torch.equal(*heads)


def test_a_checkpoint_returns_as_it_was(tiny_study, collection, tmp_path):
    run = tiny_study.run("listwise-w8-s0")
    model = build_model(tiny_study, run, 300)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    path = paths.checkpoint_file(tmp_path, 1234)
    assert path.name == "exposure-000001234"
    save_checkpoint(build_model(tiny_study, run, 300), path, collection.tokens)
    save_checkpoint(model, path, collection.tokens)  # in place of what was there
    loaded = load_checkpoint(build_model(tiny_study, run, 300), path)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert [p.name for p in tmp_path.glob("*exposure*")] == [path.name]


def test_a_checkpoint_that_breaks_off_leaves_what_was_there(tiny_study, collection, tmp_path, monkeypatch):
    model, path = build_model(tiny_study, tiny_study.run("listwise-w8-s0"), 300), tmp_path / "one"
    save_checkpoint(model, path, collection.tokens)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rankscale_utils.models.export.save_file", broken)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(model, path, collection.tokens)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert [file.name for file in tmp_path.iterdir() if "one" in file.name] == ["one"]


@pytest.mark.parametrize("size", [0, 300])
def test_a_damaged_checkpoint_is_one_sentence(tiny_study, collection, tmp_path, size):
    model, path = build_model(tiny_study, tiny_study.run("listwise-w8-s0"), 300), tmp_path / "one"
    save_checkpoint(model, path, collection.tokens)
    with open(path / "model.safetensors", "r+b") as file:
        file.truncate(size)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(StudyError, match=r"one is damaged or gone: train its run again"):
        load_checkpoint(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(StudyError, match="damaged or gone"):
        load_checkpoint(model, tmp_path / "none")


def test_weights_may_come_from_elsewhere(tiny_study, collection, tmp_path):
    model = build_model(tiny_study, tiny_study.run("listwise-w8-s0"), 300)
    weights = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    save_checkpoint(model, tmp_path / "one", collection.tokens, weights)
    loaded = load_checkpoint(model, tmp_path / "one").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in weights.items())


def test_many_checkpoints_share_one_tokenizer_file(trained, collection):
    files = [path / "tokenizer.json" for path in (trained.folder / "listwise-w8-s0").glob("exposure-*/")]
    assert len(files) == 3
    assert len({file.read_bytes() for file in files}) == 1
