import os
import subprocess
import sys
import time
from pathlib import Path

from rankscale_utils.machine.sockets import socket_folder

OWNER = """
import sys, time
from rankscale_utils.machine.sockets import socket_folder
with socket_folder() as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_its_users_alone_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with socket_folder() as folder:
        assert Path(folder).parent == tmp_path
        assert os.stat(folder).st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_another_uses_is_not(tmp_path, monkeypatch):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", OWNER]
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as living,
    ):
        left, used = (Path(owner.stdout.readline().strip()) for owner in (killed, living))
        killed.kill()
        killed.wait()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        with socket_folder():
            time.sleep(0)
            assert not left.exists()
            assert used.exists()
        living.kill()
