import pytest
import torch

from rankscale_utils.models import ladder
from rankscale_utils.models.counts import parameters


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_a_rungs_model_has_its_shape(new_study, architecture):
    shape = {"hidden": 12, "layers": 3, "heads": 3, "intermediate": 20}
    study = new_study(architecture=architecture, ladder=new_study().model_dump()["ladder"] | {"w12": shape})
    config = ladder.build(study, study.run("listwise-w12-s0"), 300).encoder.config
    assert config.model_type == architecture
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (12, 3, 3)
    assert (config.intermediate_size, config.vocab_size, config.max_position_embeddings) == (20, 300, 48)


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_the_ladder_rises(new_study, architecture):
    study = new_study(architecture=architecture)
    counts = [parameters(ladder.build(study, study.run(f"listwise-{rung}-s0"), 300)) for rung in study.ladder]
    assert [c.total for c in counts] == sorted({c.total for c in counts})
    assert [c.non_embedding for c in counts] == sorted({c.non_embedding for c in counts})


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_training_has_no_hidden_randomness(new_study, architecture):
    # No dropout: what a run sees and starts from decides its weights.
    study = new_study(architecture=architecture)
    model = ladder.build(study, study.run("listwise-w8-s0"), 300).train()
    torch.nn.init.normal_(model.head.weight)
    ids = torch.arange(4, 24)[None]
    types = (torch.arange(20) > 8).long()[None]
    first, second = (model(ids, torch.ones_like(ids), types) for _ in range(2))
    assert torch.equal(first, second)


def test_a_checkpoint_returns_as_it_was(tiny_study, tmp_path):
    run = tiny_study.run("listwise-w8-s0")
    model = ladder.build(tiny_study, run, 300)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    path = ladder.checkpoint_file(tmp_path, 1234)
    assert path.name == "exposure-000001234.safetensors"
    ladder.save(model, path)
    loaded = ladder.load(ladder.build(tiny_study, run, 300), path)
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert [p.name for p in tmp_path.glob("*exposure*")] == [path.name]
