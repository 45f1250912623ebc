"""Several processes train one run as one process does: torchrun with gloo, on the CPU."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from rankscale_utils.collections import open_collection
from rankscale_utils.machine.files import read_json
from rankscale_utils.training.distributed import Processes, out_of_memory, processes
from rankscale_utils.training.run import train
from tests.conftest import use_root, write_tiny
from tests.training.test_run import RATE, short

pytest.importorskip("accelerate")
RUN = "pointwise-w8-s0"
OBJECTIVES = {"pairwise": {"learning_rate": RATE}, "pointwise": {"learning_rate": RATE}}

TWO = {"gpus": 2}
TOGETHER = {"whole": TWO, "micro_batches": TWO | {"micro_batch": 2}, "fails": TWO, "sharded": TWO | {"sharded": True}}
TOGETHER |= {"whole_stops": TWO, "sharded_stops": TOGETHER["sharded"]}

# Trains run argv[1] of every further study; of the one that fails, memory runs out in the second process at the third
# step, where those that stop are told to, and go on when they are started again. The processes stay
# together from one to the next.
WORKER = """
import os, signal, sys
import torch
from rankscale_utils.training import run, trainer

score, part_ways = trainer.Trainer._outputs, torch.distributed.destroy_process_group
torch.distributed.destroy_process_group = lambda: None

def fails(self, batch, part):
    if os.environ["RANK"] == "1" and self.seen.step == 2 and len(batch.sequences.counts) > 3:
        raise torch.OutOfMemoryError("made up")
    return score(self, batch, part)

def stops(self, batch, part):
    if os.environ["RANK"] == "1" and self.seen.step == 2:
        os.kill(os.getpid(), signal.SIGURG)
    return score(self, batch, part)

for study in sys.argv[2:]:
    if study.endswith("stops.yaml"):
        trainer.Trainer._outputs = stops
        assert run.main(study, sys.argv[1]) == 2
    trainer.Trainer._outputs = fails if study.endswith("fails.yaml") else score
    run.main(study, sys.argv[1])
part_ways()
"""


def torchrun(studies, folder, count=2):
    script = folder / "worker.py"
    script.write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", str(script)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, RUN, *(str(study.source) for study in studies)],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-9000:]


def weights(study, run=RUN):
    return [load_file(path) for path in sorted(study.run_folder(study.run(run)).rglob("*.safetensors"))]


def assert_same(ones, others, tolerance):
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for name, tensor in one.items():
            if name.endswith("key.bias"):  # no score depends on it, so Adam blows its gradient's rounding up
                continue
            assert (tensor - other[name]).abs().max() <= tolerance * max(1.0, tensor.abs().max()), name


@pytest.fixture(scope="module")
def studies(tmp_path_factory, session_root):
    """Return studies that several processes trained, by name, of three queries a step, so that shares differ."""
    root, groups = (
        tmp_path_factory.mktemp("together"),
        {"hard": 1, "random": 1, "hard_depth": 10, "queries_per_step": 3},
    )
    with pytest.MonkeyPatch.context() as patch:
        use_root(patch, root, session_root / "cache")
        training = short(groups=groups, exposures=[27, 54])
        written = {
            name: write_tiny(root, name, objectives=OBJECTIVES, training=training | changes)
            for name, changes in TOGETHER.items()
        }
        torchrun(written.values(), root)
        yield written


def alone(study, run=RUN):
    """Train a study's like of one process; return it and its ledger."""
    training = study.training.model_dump(mode="json") | {"gpus": 1, "sharded": False}
    like = write_tiny(study.source.parents[1], f"{study.name}_alone", objectives=OBJECTIVES, training=training)
    return like, train(like, like.run(run), open_collection(like), torch.device("cpu"))


@pytest.mark.parametrize("name", ["whole", "micro_batches"])
def test_two_processes_take_the_steps_of_one(studies, name):
    one, ledger = alone(studies[name])
    assert_same(weights(one), weights(studies[name]), 5e-6)
    together = read_json(studies[name].folder / RUN / "ledger.json")
    assert together["hardware"]["processes"] == 2
    assert [row["flops"] for row in together["checkpoints"]] == [row["flops"] for row in ledger["checkpoints"]]
    assert [row["loss"] for row in together["checkpoints"]] == pytest.approx(
        [row["loss"] for row in ledger["checkpoints"]], rel=1e-5
    )


def test_memory_that_runs_out_in_one_process_halves_the_micro_batch_of_all(studies):
    one, _ = alone(studies["fails"])
    assert_same(weights(one), weights(studies["fails"]), 5e-6)
    assert read_json(studies["fails"].folder / RUN / "ledger.json")["micro_batches"] == [
        {"step": 0, "pairs": 6},
        {"step": 2, "pairs": 3},
    ]


def test_sharded_weights_are_those_of_one_process(studies):
    one, _ = alone(studies["sharded"])
    assert_same(weights(one), weights(studies["sharded"]), 5e-6)


@pytest.mark.parametrize("name", ["whole_stops", "sharded_stops"])
def test_when_one_is_told_to_stop_all_keep_their_state_and_go_on_from_there(studies, name):
    one, _ = alone(studies[name])
    assert_same(weights(one), weights(studies[name]), 5e-6)


def test_a_process_alone_has_the_whole_step():
    assert range(5)[Processes().share(5)] == range(5)


def test_shares_are_even_and_leave_nothing_out(monkeypatch):
    some = Processes()
    some.count = 4
    taken = []
    for some.index in range(4):
        taken += range(10)[some.share(10)]
        assert len(range(10)[some.share(10)]) in (2, 3)
    assert taken == list(range(10))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA out of memory"), False),
    ],
)
def test_only_errors_of_memory_count_as_such(error, expected):
    assert out_of_memory(error) is expected
    assert processes(torch.device("cpu")).count == 1
