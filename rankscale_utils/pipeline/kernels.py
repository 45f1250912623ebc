"""Register the Jupyter kernels: `python -m rankscale_utils.pipeline.kernels` (what `make kernels` runs).

`rankscale-cpu` hides every GPU. `rankscale-gpu` is for batch: it sets no device, so that the scheduler's choice or the
device lock's stands. `rankscale-gpu0`, `-gpu1`, … are pinned to one visible GPU each, for JupyterLab.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager

from rankscale_utils.machine.device import gpus


def specs(gpu_count: int) -> dict[str, dict]:
    """Return the kernelspecs by name for a machine with so many GPUs."""

    def spec(title: str, **env: str) -> dict:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return {"argv": argv, "display_name": title, "language": "python", "env": env}

    kernels = {
        "rankscale-cpu": spec("rankscale (CPU)", CUDA_VISIBLE_DEVICES=""),
        "rankscale-gpu": spec("rankscale (GPU)"),
    }
    pinned = {
        f"rankscale-gpu{number}": spec(f"rankscale (GPU {number})", CUDA_VISIBLE_DEVICES=str(number))
        for number in range(gpu_count)
    }
    return kernels | pinned


def register(prefix: Path = Path(sys.prefix)) -> list[str]:
    """Install the kernelspecs into an environment, dropping pinned ones of GPUs that are gone; return their names."""
    for stale in (prefix / "share" / "jupyter" / "kernels").glob("rankscale-gpu[0-9]*"):
        shutil.rmtree(stale)
    kernels = specs(gpus())
    for name, spec in kernels.items():
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "kernel.json").write_text(json.dumps(spec, indent=2), encoding="utf-8")
            KernelSpecManager().install_kernel_spec(folder, name, prefix=str(prefix))
    return list(kernels)


if __name__ == "__main__":
    print("kernels:", ", ".join(register()))
