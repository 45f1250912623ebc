import numpy as np
import pytest
import torch

from rankscale_utils import speed
from rankscale_utils.evaluation import open_test
from rankscale_utils.models import ladder
from rankscale_utils.models.counts import flops

CPU = torch.device("cpu")


def test_the_ladder_is_the_most_trained_model_of_each_rung_by_size(trained, collection):
    models = speed.load_ladder(trained, collection, CPU)
    assert list(models) == ["w4", "w6", "w8", "w12"]
    for rung, model in models.items():
        last = ladder.checkpoint_file(trained.folder / f"listwise-{rung}-s0", 960)
        again = ladder.load(ladder.build(trained, trained.run(f"listwise-{rung}-s0"), 512), last)
        assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
        assert not model.training


def test_every_rung_is_timed_on_the_same_work(trained, collection, monkeypatch):
    calls = []
    scored = speed.score

    def noted(model, pairs, query_rows, document_rows):
        calls.append((model.encoder.config.hidden_size, tuple(query_rows), tuple(document_rows)))
        return scored(model, pairs, query_rows, document_rows)

    monkeypatch.setattr(speed, "score", noted)
    table = speed.measure(trained, collection, CPU, queries=3, repeats=2)
    assert table["rung"].tolist() == ["w4", "w6", "w8", "w12"]
    assert len(calls) == 4 * (3 + 1) * (2 + 1)  # rungs × (queries and the throughput) × (repeats and the warm-up)
    work = {hidden: [call[1:] for call in calls if call[0] == hidden] for hidden in (4, 6, 8, 12)}
    assert all(done == work[4] for done in work.values())
    assert [hidden for hidden, *_ in calls[:16:4]] == [4, 6, 8, 12]  # rungs take turns within a repeat
    assert (table["p50_low"] <= table["p50_ms"]).all()
    assert (table["p50_ms"] <= table["p50_high"]).all()
    assert (table["p50_ms"] <= table["p95_ms"]).all()
    assert (table[["p50_low", "pairs_per_second"]] > 0).all().all()
    assert set(table["depth"]) == {10}
    assert set(table["repeats"]) == {2}


def test_times_are_those_of_the_clock_without_the_warm_up(trained, collection, monkeypatch):
    # A clock that stands still but for scoring, which takes 1 ms a pair, and ten times as long in the first round.
    clock, calls = [0.0], []

    def slow(model, pairs, query_rows, document_rows):
        calls.append(1)
        clock[0] += len(query_rows) * (0.01 if len(calls) <= 4 * 6 else 0.001)

    monkeypatch.setattr(speed, "score", slow)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    table = speed.measure(trained, collection, CPU, queries=5, repeats=3)
    assert table["p50_ms"].to_numpy() == pytest.approx(10)
    assert table["p95_ms"].to_numpy() == pytest.approx(10)
    assert table["pairs_per_second"].to_numpy() == pytest.approx(1000)


def test_the_cost_of_a_pair_is_the_mean_over_the_candidates(trained, collection):
    table = speed.measure(trained, collection, CPU, queries=1, repeats=1).set_index("rung")
    test, pairs = open_test(trained, collection), collection.pairs()
    lengths = pairs.lengths(test.candidates["query_row"].to_numpy(), test.candidates["document_row"].to_numpy())
    model = speed.load_ladder(trained, collection, CPU)["w8"]
    assert table.loc["w8", "flops_per_pair"] == pytest.approx(flops(model).forward(lengths).mean())
    assert np.all(np.diff(table["flops_per_pair"]) > 0)


def test_tokenising_takes_time_too(trained, collection):
    assert 0 < speed.tokenisation_ms(trained, collection, queries=3) < 10_000
