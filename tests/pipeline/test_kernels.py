import json
import sys

from jupyter_client.kernelspec import KernelSpecManager

from rankscale_utils.pipeline import kernels
from rankscale_utils.pipeline.kernels import register


def test_the_cpu_kernel_hides_gpus_and_the_batch_kernel_chooses_none():
    specs = kernels.specs(0)
    assert list(specs) == ["rankscale-cpu", "rankscale-gpu"]
    assert specs["rankscale-cpu"]["env"] == {"CUDA_VISIBLE_DEVICES": ""}
    assert specs["rankscale-gpu"]["env"] == {}
    assert all(spec["argv"][0] == sys.executable for spec in specs.values())


def test_every_gpu_has_a_kernel_pinned_to_it():
    specs = kernels.specs(3)
    pinned = {name: spec["env"] for name, spec in specs.items() if name not in kernels.specs(0)}
    assert pinned == {f"rankscale-gpu{n}": {"CUDA_VISIBLE_DEVICES": str(n)} for n in range(3)}
    assert len({spec["display_name"] for spec in specs.values()}) == 5


def test_registering_installs_the_kernels_and_drops_those_of_gpus_that_are_gone(tmp_path, monkeypatch):
    folder = tmp_path / "share" / "jupyter" / "kernels"
    for gpus, names in [(2, ["cpu", "gpu", "gpu0", "gpu1"]), (1, ["cpu", "gpu", "gpu0"]), (0, ["cpu", "gpu"])]:
        monkeypatch.setattr(kernels, "gpus", lambda gpus=gpus: gpus)
        assert register(tmp_path) == [f"rankscale-{name}" for name in names]
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"rankscale-{name}" for name in names)
    written = json.loads((folder / "rankscale-cpu" / "kernel.json").read_text())
    assert written == kernels.specs(0)["rankscale-cpu"]
    found = KernelSpecManager(kernel_dirs=[str(folder)]).find_kernel_specs()
    assert set(found) >= {"rankscale-cpu", "rankscale-gpu"}


def test_this_environment_has_the_kernels_that_batch_runs_use():
    assert {"rankscale-cpu", "rankscale-gpu"} <= set(KernelSpecManager().find_kernel_specs())
