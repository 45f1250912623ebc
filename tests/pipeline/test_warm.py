import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from rankscale_utils.pipeline.stage import reason
from rankscale_utils.pipeline.warm import serving
from rankscale_utils.training.resume import SECONDS_TO_WAIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="notebooks start warm on Linux alone")
COLD = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
WORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import matplotlib.pyplot as plt, numpy as np, pandas as pd, torch
import rankscale_utils.training.run
from rankscale_utils.report import figures
numbers = torch.randn(300, 300, generator=torch.Generator().manual_seed(0))
print((numbers @ numbers).softmax(1).std().item().hex())
print(float((numbers.numpy() @ numbers.numpy()).sum()).hex(), torch.get_num_threads(), os.getcwd(), sys.argv[0])
print(plt.get_backend(), os.environ["MPLBACKEND"], sys.path, __name__)
_ = plt.plot(np.cumsum(np.random.default_rng(0).normal(size=50)))
pd.DataFrame({"a": [1.5]})
"""
ENVIRONMENT = """
import os, torch
threads, device = torch.get_num_threads(), os.environ["CUDA_VISIBLE_DEVICES"]
print(os.environ["MINE"], device, os.environ["OMP_NUM_THREADS"], threads, torch.cuda.is_initialized(), os.getppid())
"""
WAITS = "import os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\ntime.sleep(600)"


def papermill(folder, source, environment=COLD, kernel="rankscale-cpu"):
    """Start papermill as the Snakefile does, its log beside the notebook."""
    cells = [
        nbformat.v4.new_code_cell("given = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(source),
    ]
    kernelspec = {"name": "rankscale-cpu", "display_name": "rankscale (CPU)", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec}), folder / "in.ipynb")
    command = ["papermill", "in.ipynb", "out.ipynb", "-k", kernel, "--engine", "rankscale", "--no-progress-bar"]
    command += ["-p", "given", "1"]
    with open(folder / "log", "w", encoding="utf-8") as log:
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)


def executed(folder, *arguments, status=0):
    """Run papermill; return the executed notebook's outputs and metadata, without times."""
    assert papermill(folder, *arguments).wait(timeout=300) == status, (folder / "log").read_text()
    notebook = nbformat.read(folder / "out.ipynb", 4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    untimed = re.sub(r"'(start_time|end_time|duration)': [^,}]+", "", str(notebook.metadata))
    return outputs, untimed


def printed(folder, *arguments):
    return "".join(output.text for output in executed(folder, *arguments)[0] if output.output_type == "stream").split()


def kernel_of(folder):
    """Return the process of the notebook that runs."""
    until = time.monotonic() + 120
    while not (folder / "pid").exists() or not (pid := (folder / "pid").read_text()):
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.05)
    return psutil.Process(int(pid))


def server(environment):
    """Return the process that serves an environment."""
    return next(child for child in psutil.Process().children() if environment["RANKSCALE_WARM"] in child.cmdline())


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """Return the environment in which notebooks start warm."""
    with serving(tmp_path_factory.mktemp("warm") / "logs" / "warm.log", COLD) as environment:
        yield environment


def test_a_warm_notebook_is_the_cold_one(warm, tmp_path):
    cold = executed(tmp_path, WORK)
    said = (tmp_path / "log").read_text()
    assert executed(tmp_path, WORK, warm) == cold
    assert any("image/png" in output.get("data", {}) for output in cold[0])
    interrupted = "[IPKernelApp] ERROR | KeyboardInterrupt caught in kernel.\n"  # at its end, or not
    assert (tmp_path / "log").read_text().replace(interrupted, "") == said.replace(interrupted, "")


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_no_kernel_needs_a_port(warm, tmp_path, start):
    source = "import json, ipykernel\nprint(json.loads(ipykernel.get_connection_info())['transport'])"
    assert printed(tmp_path, source, warm if start == "warm" else COLD) == ["ipc"]


def test_the_clients_environment_reaches_a_kernel_that_is_a_fork(warm, tmp_path):
    given = {"MINE": "a b", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "3"}
    source = ENVIRONMENT.replace("import os", "import sys\nassert 'torch' in sys.modules\nimport os")
    said = printed(tmp_path, source, warm | given, "rankscale-gpu")
    assert said == ["a", "b", "3", "2", "2", "False", str(server(warm).pid)]
    assert "''" in printed(tmp_path, "import os; print(repr(os.environ['CUDA_VISIBLE_DEVICES']))", warm | given)
    assert server(warm).num_threads() == 1


def test_a_failing_notebook_ends_as_a_cold_one(warm, tmp_path):
    source = "print('so far')\nraise ValueError('no such run')"
    cold = executed(tmp_path, source, status=1)
    said = (tmp_path / "log").read_text().splitlines()[-4:]
    assert executed(tmp_path, source, warm, status=1)[0][-1]["evalue"] == cold[0][-1]["evalue"] == "no such run"
    assert (tmp_path / "log").read_text().splitlines()[-4:] == said


def test_a_sentence_ends_a_notebook_without_a_traceback(warm, tmp_path):
    source = "from rankscale_utils.errors import StudyError\nraise StudyError('exposures = 3: raise it')"
    [output] = executed(tmp_path, source, warm, status=1)[0]
    assert output["traceback"] == ["rankscale: exposures = 3: raise it"]
    assert reason((tmp_path / "log").read_text()) == "exposures = 3: raise it"


def test_a_kernel_that_is_killed_fails_its_own_notebook_alone(warm, tmp_path):
    killed = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    assert papermill(tmp_path, killed, warm).wait(timeout=120) == 138
    log = (tmp_path / "log").read_text()
    assert reason(log) == "its kernel died: it was killed (SIGKILL, most likely for want of memory)"
    assert printed(tmp_path, "print('goes on')", warm) == ["goes", "on"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_client_takes_its_kernel_with_it(warm, tmp_path, number):
    client = papermill(tmp_path, WAITS, warm)
    kernel = kernel_of(tmp_path)
    client.send_signal(number)
    assert client.wait(timeout=SECONDS_TO_WAIT) != 0
    kernel.wait(timeout=SECONDS_TO_WAIT)


def test_a_killed_papermill_takes_its_kernel_with_it(warm, tmp_path):
    client = papermill(tmp_path, WAITS, warm)
    kernel = kernel_of(tmp_path)
    [process] = [child for child in server(warm).children() if child != kernel]
    process.kill()
    assert client.wait(timeout=SECONDS_TO_WAIT) == 128 + signal.SIGKILL
    kernel.wait(timeout=SECONDS_TO_WAIT)


def test_a_killed_server_takes_all_with_it_and_later_notebooks_start_cold(tmp_path):
    with serving(tmp_path / "warm.log", COLD, trains=False) as environment:
        running = papermill(tmp_path, WAITS, environment)
        kernel, mine = kernel_of(tmp_path), server(environment)
        mine.kill()
        assert running.wait(timeout=SECONDS_TO_WAIT) != 0
        kernel.wait(timeout=SECONDS_TO_WAIT)
        mine.wait()
        assert printed(tmp_path, "print('cold')", environment) == ["cold"]


@pytest.mark.parametrize("threads", [0, 1])
def test_a_process_with_threads_is_not_forked(threads):
    source = """
import os, sys, threading, time
from rankscale_utils.pipeline.warm import fork_safe
for _ in range(int(sys.argv[1])):
    threading.Thread(target=time.sleep, args=[60], daemon=True).start()
print(fork_safe())
"""
    said = subprocess.run([sys.executable, "-c", source, str(threads)], capture_output=True, text=True)
    assert said.stdout == f"{not threads}\n", said.stderr
