import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rankscale_utils.machine import lease as leases
from rankscale_utils.machine.lease import Held, lease

# Takes argv[1] and holds it until its input ends.
HOLDER = """
import sys
from rankscale_utils.machine.lease import lease
with lease(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    return process


def taken(path, machine="there", age=0.0):
    """Leave a lease as a process of another machine holds it, renewed so many seconds ago."""
    file = Path(f"{path}.1")
    file.write_text(json.dumps({"machine": machine, "pid": 1, "started": "1"}), encoding="utf-8")
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_one_process_at_a_time_holds_it_and_the_next_one_has_it_at_once(tmp_path):
    other = holder(tmp_path / "lock")
    with pytest.raises(Held), lease(tmp_path / "lock", timeout=0.3):
        pass
    other.communicate(b"")
    with lease(tmp_path / "lock", timeout=0.3):
        assert [file.name for file in tmp_path.iterdir()] == ["lock.2"]
    assert json.loads((tmp_path / "lock.2").read_text()) == {}


def test_a_process_that_was_killed_holds_nothing(tmp_path):
    other = holder(tmp_path / "lock")
    other.send_signal(signal.SIGKILL)
    until = time.monotonic() + 10
    while leases._started(other.pid):  # which it is until the system has taken it apart; a zombie holds nothing
        assert time.monotonic() < until
    began = time.monotonic()
    with lease(tmp_path / "lock"):
        assert time.monotonic() - began < 1
    other.wait()


def test_a_dead_machine_holds_it_until_its_time_has_stood_still(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "GONE", 1.0)
    taken(tmp_path / "lock", age=1e6)  # clocks of two machines are never compared
    began = time.monotonic()
    with lease(tmp_path / "lock", timeout=0.1):
        assert 1.0 <= time.monotonic() - began < 5.0


def test_another_machine_that_lives_is_not_robbed(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "GONE", 1.0)
    file, over = taken(tmp_path / "lock"), threading.Event()

    def renew():
        while not over.wait(0.2):
            os.utime(file)

    thread = threading.Thread(target=renew)
    thread.start()
    with pytest.raises(Held), lease(tmp_path / "lock", timeout=2.0):
        pass
    over.set()
    thread.join()


def test_of_many_that_wait_for_a_dead_one_a_single_one_follows(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "GONE", 0.3)
    taken(tmp_path / "lock")
    inside, most = [], []

    def work():
        with lease(tmp_path / "lock"):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    assert [file.name for file in tmp_path.glob("lock.*")] == ["lock.9"]


def test_a_process_that_slept_while_another_took_over_ends(tmp_path):
    script = HOLDER.replace("with lease", "from rankscale_utils.machine import lease as l; l.RENEWED = 0.2\nwith lease")
    command = [sys.executable, "-c", script, str(tmp_path / "lock")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    (tmp_path / "lock.2").write_text("{}")
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=20) == 70
    assert b"was taken over by another machine while this process slept: it ends" in process.stderr.read()
