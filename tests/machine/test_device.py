import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import psutil
import pytest
import torch

from rankscale_utils.machine import device
from rankscale_utils.machine.device import compute_device, hardware, lease

# Notes which GPU it was given, and when it had it, in the file argv[1]; holds it for argv[2] seconds.
WORK = """
import os, sys, time
began = time.monotonic()
time.sleep(float(sys.argv[2]))
with open(sys.argv[1], "a") as log:
    log.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'none')} {began} {time.monotonic()}\\n")
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def start(tmp_path):
    """Start commands under the device lock on a machine whose driver shows so many GPUs."""
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    log = tmp_path / "log"

    def begin(gpus, seconds=0.0, status=0, gpus_wanted=1, **environment):
        listed = "".join(f"echo 'GPU {number}: made up'\n" for number in range(gpus))
        driver.write_text(f"#!/bin/sh\n{listed}")
        driver.chmod(0o755)
        path = f"{driver.parent}{os.pathsep}{os.environ['PATH']}"
        given = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        command = [sys.executable, "-m", "rankscale_utils.pipeline.stage", "--gpus", str(gpus_wanted)]
        command += ["study", "stage", str(tmp_path / "stage.log")]
        command += [sys.executable, "-c", WORK, str(log)]
        return subprocess.Popen(
            [*command, str(seconds), str(status)],
            env=given | {"PATH": path, "TMPDIR": str(tmp_path), "RANKSCALE_ROOT": str(tmp_path)} | environment,
            start_new_session=True,
        )

    (tmp_path / "runs" / "study").mkdir(parents=True)
    begin.log = log
    return begin


def held(log):
    """Return (GPU, began, ended) of every command that ran."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(gpu, float(began), float(ended)) for gpu, began, ended in lines]


def test_two_processes_never_hold_the_same_gpu(start):
    processes = [start(2, seconds=0.4) for _ in range(5)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 5
    spans = held(start.log)
    assert len(spans) == 5
    assert {gpu for gpu, *_ in spans} == {"0", "1"}
    for gpu in "01":
        times = sorted(span[1:] for span in spans if span[0] == gpu)
        assert all(ended <= began for (_, ended), (began, _) in pairwise(times))


def test_a_killed_holder_gives_its_gpu_back(start):
    holder = start(1, seconds=30)
    lock = start.log.parent / "rankscale-gpu0.lock"
    until = time.monotonic() + 30
    while not lock.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    waiting = start(1)
    time.sleep(1)
    assert waiting.poll() is None
    os.killpg(holder.pid, signal.SIGKILL)  # the command and what holds its lock
    holder.wait(timeout=10)
    assert waiting.wait(timeout=30) == 0
    assert [gpu for gpu, *_ in held(start.log)] == ["0"]


@pytest.mark.parametrize("choice", ["7", ""])
def test_the_schedulers_choice_stands(start, choice):
    assert start(2, CUDA_VISIBLE_DEVICES=choice).wait(timeout=60) == 0
    assert start.log.read_text().split(" ")[0] == choice
    assert not list(start.log.parent.glob("*.lock"))


def test_without_a_gpu_the_command_just_runs_and_its_status_is_returned(start):
    assert start(0, status=3).wait(timeout=60) == 3
    assert [gpu for gpu, *_ in held(start.log)] == ["none"]


def test_the_status_of_a_command_on_a_gpu_is_returned(start):
    assert start(1, status=138).wait(timeout=60) == 138


def test_a_lease_takes_the_first_free_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    first, second = lease(3), lease(3)
    assert (*first, *second) == (0, 1)
    first[0].close()
    assert list(lease(3)) == [0]


def test_several_gpus_are_leased_together_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    one = lease(3)
    both = lease(3, wanted=2)
    assert (*one, *both) == (0, 1, 2)
    one[0].close()

    class Waits(Exception):
        pass

    def wait(_):
        raise Waits

    monkeypatch.setattr(device.time, "sleep", wait)
    with pytest.raises(Waits):
        lease(3, wanted=2)
    assert list(lease(3)) == [0]  # what waits holds nothing


def test_a_command_of_several_gpus_sees_them_all(start):
    assert start(3, gpus_wanted=2).wait(timeout=60) == 0
    assert [gpu for gpu, *_ in held(start.log)] == ["0,1"]


def test_a_command_that_outlives_its_killed_parent_keeps_its_gpu(start):
    holder = start(1, seconds=4)
    until = time.monotonic() + 30
    of_command = [sys.executable, "-c"]  # and not of the driver's tool, a child as well
    while not (found := [p for p in psutil.Process(holder.pid).children() if p.cmdline()[:2] == of_command]):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(timeout=10)
    assert found[0].is_running()
    assert start(1).wait(timeout=60) == 0
    (_, first_began, first_ended), (_, began, _) = held(start.log)
    assert first_ended - first_began >= 4
    assert began >= first_ended


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device.gpus() == 0


def test_the_device_is_pinned_to_its_threads():
    before = torch.get_num_threads()
    try:
        chosen = compute_device(2)
        assert torch.get_num_threads() == 2
        assert hardware()["threads"] == 2
    finally:
        torch.set_num_threads(before)
    assert chosen.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert hardware()["torch"] == torch.__version__
    assert hardware()["device"]


def test_a_lock_serves_every_user_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    before = os.umask(0o077)
    try:
        lease(1)[0].close()
    finally:
        os.umask(before)
    file = tmp_path / "rankscale-gpu0.lock"
    assert file.stat().st_mode & 0o777 == 0o444

    def of_another_user(path, flags, *mode):  # what the kernel says of a file of theirs in a folder with a sticky bit
        if flags & (os.O_WRONLY | os.O_RDWR) or (flags & os.O_CREAT and not flags & os.O_EXCL):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *mode)

    opened = os.open
    monkeypatch.setattr(device.os, "open", of_another_user)
    assert list(lease(1)) == [0]
