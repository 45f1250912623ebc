"""Notebooks and pages that start warm: one server imports what they need, and their processes are forked from it.

While a study runs, `papermill`, the command that renders and the kernels' `python` stand for `warm_client.py`, which
asks the server for a fork. Where there is no server (another system than Linux, a server that died, papermill by hand)
they start as ever.
"""

import atexit
import ctypes
import gc
import json
import os
import runpy
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from io import FileIO
from pathlib import Path

from rankscale_utils.machine.device import cores
from rankscale_utils.machine.sockets import socket_folder

from .kernels import specs
from .leader import SIGNAL_WHEN_PARENT_ENDS

CLIENT = [sys.executable, "-I", "-S", str(Path(__file__).with_name("warm_client.py"))]
# What notebooks import, now or within the functions they call, but for what looks at its process when it is imported:
# `papermill.cli` at the files, `ipykernel.kernelapp` at the environment, and the inline backend of `figures.use_style`
# at the notebook it draws for.
PRELOADED = (
    *("papermill", "ipykernel.ipkernel", "IPython.core.application", "seaborn", "nbconvert"),
    "rankscale_utils.analysis.multiverse",
    "rankscale_utils.analysis.significance",
    "rankscale_utils.report.render",
    "rankscale_utils.pipeline.notebook",
)
OF_TRAINING = (
    "torch._dynamo",
    "rankscale_utils.training.run",
    "rankscale_utils.evaluation.evaluate",
    "rankscale_utils.evaluation.speed",
    "rankscale_utils.report.speedup",
)
RENDER = "rankscale-render"
COMMANDS = {"papermill": "papermill", RENDER: "rankscale_utils.report.render"}
# Libraries read these when they are loaded: none may start a thread, which a fork would lose, and figures are drawn as
# ipykernel has them drawn.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


@contextmanager
def serving(log: Path, environment: dict[str, str], trains: bool = True) -> Iterator[dict[str, str]]:
    """Run a warm server while the block runs; yield the environment in which notebooks start from it.

    trains: whether notebooks train, and so import what trains.
    """
    if sys.platform != "linux":
        yield environment
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with socket_folder() as folder, open(log, "w", encoding="utf-8") as said:
        modules = [*PRELOADED, *(OF_TRAINING if trains else [])]
        command = [sys.executable, "-m", "rankscale_utils.pipeline.warm", f"{folder}/socket", *modules]
        streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
        with subprocess.Popen(command, env=environment | ENVIRONMENT, **streams) as server:
            try:
                yield environment | _overlay(Path(folder), environment)
            finally:
                server.kill()


def _overlay(folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """Write commands and kernels that start warm into a folder; return the variables that put them first."""
    commands = folder / "bin"
    commands.mkdir()
    for name, module in COMMANDS.items():
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec {shlex.join([*CLIENT, "-m", module])} "$@"\n', encoding="utf-8")
        command.chmod(0o700)
    for name, spec in specs(0).items():
        kernel = folder / "kernels" / name / "kernel.json"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(json.dumps(spec | {"argv": CLIENT + spec["argv"][1:]}), encoding="utf-8")
    first = {"PATH": str(commands), "JUPYTER_PATH": str(folder)}
    kept = {name: os.pathsep.join(filter(None, [new, environment.get(name)])) for name, new in first.items()}
    return kept | {"RANKSCALE_WARM": f"{folder}/socket"}


def fork_safe() -> bool:
    """Say whether this process has one thread and no GPU open, so that a fork of it is whole."""
    files = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    gpu = any(file.startswith(("/dev/nvidia", "/dev/kfd")) for file in files)
    return not gpu and len(os.listdir("/proc/self/task")) == 1


@dataclass
class _Child:
    """A forked process: its number, a file that is readable once it has ended, and who asked for it."""

    pid: int
    ended: FileIO
    client: socket.socket


def serve(listener: socket.socket) -> None:
    """Fork a process for every client. Returns in the forked processes, each as its client asked for, and only there.

    A client that goes takes its process with it, and the end of the server ends all.
    """
    server = os.getpid()
    with selectors.DefaultSelector() as watched:
        watched.register(listener, selectors.EVENT_READ)
        while True:
            key, _ = watched.select()[0]  # one at a time, as what it says may end what the next ones are about
            if key.fileobj is not listener:
                _attend(watched, key.data, key.fileobj)
                continue
            client, _ = listener.accept()
            try:
                request, files = _request(client)
                client.sendall(b"+")
                pid = os.fork()
            except (OSError, ValueError):  # the client has gone, or there is no memory for one more process
                client.close()
                continue
            if not pid:
                for file in (client, *(other.fileobj for other in watched.get_map().values())):
                    file.close()
                break
            os.setpgid(pid, pid)
            for file in files:
                os.close(file)
            child = _Child(pid, FileIO(os.pidfd_open(pid)), client)
            watched.register(child.ended, selectors.EVENT_READ, child)
            watched.register(client, selectors.EVENT_READ, child)
    _end_with(server)
    _become(request, files)


def _request(client: socket.socket) -> tuple[dict, list[int]]:
    size, files, *_ = socket.recv_fds(client, 8, 3)
    return json.loads(client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)), files


def _attend(watched: selectors.BaseSelector, child: _Child, file: FileIO | socket.socket) -> None:
    """Tell a client that its process has ended, or its process what the client said or that it has gone."""
    if file is child.ended:
        _, status = os.waitpid(child.pid, 0)
        with suppress(OSError):
            child.client.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        for own in (child.ended, child.client):
            with suppress(KeyError):
                watched.unregister(own)
            own.close()
        return
    try:
        signals = child.client.recv(16)
    except ConnectionResetError:
        signals = b""
    for number in signals or [signal.SIGKILL]:
        os.killpg(child.pid, number)
    if not signals:
        watched.unregister(child.client)


def _end_with(parent: int) -> None:
    """Have this process killed when its parent ends."""
    ctypes.CDLL(None).prctl(SIGNAL_WHEN_PARENT_ENDS, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _become(request: dict, files: list[int]) -> None:
    """Give this process what its client has: files, folder, environment, arguments, threads, seeds of its own."""
    import numpy as np
    import threadpoolctl

    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = request["argv"]
    if not sys.flags.safe_path:
        sys.path[0] = request["cwd"]
    threads = int(os.environ.get("OMP_NUM_THREADS", cores()))
    threadpoolctl.threadpool_limits(threads)
    np.random.seed()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)
        torch.default_generator.seed()


def _run(module: str) -> int:
    """Run a module as `python -m` does; return the exit status."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(path: str, *modules: str) -> None:
    """Import modules, then serve at a socket; a forked process goes on as the module that its client asked for."""
    status = 1

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    atexit.register(leave)  # first, so that it runs last: taking apart what is imported takes a third of a second
    _end_with(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the clients, which pass it on
    os.close(os.pidfd_open(os.getpid()))  # a Linux before 5.3 has none: end before anybody asks
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(128)
    sys.modules["rfc3987_syntax"] = None  # jsonschema spends a second on its grammar, for a format no notebook has
    for module in modules:
        import_module(module)
    if not fork_safe():
        sys.exit("rankscale: what notebooks import starts threads or opens a GPU: they start cold.")
    gc.freeze()  # a collection in a fork would otherwise copy every page
    serve(listener)
    status = _run(sys.argv[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
