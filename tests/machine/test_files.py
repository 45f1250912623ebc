import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from rankscale_utils.errors import Damaged, DiskFull
from rankscale_utils.machine.files import (
    cached_folder,
    damage_of,
    digest,
    hashes_of,
    read_json,
    read_parquet,
    remove_halves,
    whole_file,
    whole_folder,
    write_json,
    write_parquet,
)

# Builds the cache folder argv[1]: notes the build in argv[2], then sleeps for argv[3] seconds before it ends.
BUILDER = """
import os, sys, time
from pathlib import Path
from rankscale_utils.machine.files import cached_folder

def build(folder):
    (folder / "half").write_text("half")
    with open(sys.argv[2], "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(float(sys.argv[3]))
    (folder / "whole").write_text("whole")

print(sorted(path.name for path in cached_folder(Path(sys.argv[1]), build).iterdir()))
"""


def builder(folder, log, seconds):
    command = [sys.executable, "-c", BUILDER, str(folder), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def wait_for(path, seconds=30):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with whole_file(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent  # on the same file system, so that the rename is atomic
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(("umask", "of_files", "of_folders"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_and_folders_are_as_open_as_their_user_wants_them(tmp_path, umask, of_files, of_folders):
    before = os.umask(umask)
    try:
        with whole_file(tmp_path / "file"), whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == of_files
    assert (tmp_path / "folder").stat().st_mode & 0o777 == of_folders


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write():
        with whole_file(target) as temporary:
            temporary.write_text("new")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_json_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"bad": object()})
    assert list(tmp_path.iterdir()) == []


def test_json_returns_as_it_was(tmp_path):
    value = {"metric": "nDCG@10", "value": 1 / 3, "symbol": "y∞", "none": None}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "y∞" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_a_digest_is_sha256_over_lengths_and_parts():
    # printf '\3\0\0\0\0\0\0\0abc' | sha256sum
    assert digest("abc") == "ce91dc5eec0139adf091900d225971d6ad246a845bad791b5693a9d0d55dd391"
    assert digest("abc", length=8) == "ce91dc5e"
    assert digest(b"abc") == digest("abc")


def test_a_digest_tells_parts_orders_and_contents_apart(tmp_path):
    file = tmp_path / "a"
    file.write_text("abc")
    assert digest(file) == digest("abc")
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "b") != digest("b", "a")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) == digest(json.dumps({"a": 1}))


def test_processes_that_start_together_build_a_folder_once(tmp_path):
    folder, log = tmp_path / "cache" / "folder", tmp_path / "log"
    processes = [builder(folder, log, 0.3) for _ in range(4)]
    printed = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert printed == ["['half', 'whole']"] * 4
    assert len(log.read_text().splitlines()) == 1


def test_a_killed_builder_leaves_no_folder_and_the_next_one_starts_afresh(tmp_path):
    folder, log = tmp_path / "folder", tmp_path / "log"
    killed = builder(folder, log, 60)
    wait_for(log)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(timeout=30)
    assert not folder.exists()

    def build(temporary):
        assert list(temporary.iterdir()) == []
        (temporary / "fresh").write_text("fresh")

    assert [path.name for path in cached_folder(folder, build).iterdir()] == ["fresh"]
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "folder.lock.2", "folder.built.json", "log"}


def test_a_builder_that_raises_leaves_no_folder(tmp_path):
    def build(temporary):
        (temporary / "half").write_text("half")
        raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        cached_folder(tmp_path / "folder", build)
    assert not (tmp_path / "folder").exists()


def test_a_folder_with_a_truncated_or_missing_file_is_built_again(tmp_path, capsys):
    def build(temporary):
        (temporary / "deep").mkdir()
        (temporary / "deep" / "ids.npy").write_bytes(b"0123456789")

    file = cached_folder(tmp_path / "tokens", build) / "deep" / "ids.npy"
    file.write_bytes(b"01234")
    cached_folder(tmp_path / "tokens", build)
    assert file.read_bytes() == b"0123456789"
    file.unlink()
    cached_folder(tmp_path / "tokens", build)
    assert file.read_bytes() == b"0123456789"
    assert capsys.readouterr().err.count("tokens is damaged, so it is built again") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"tokens", "tokens.lock.3", "tokens.built.json"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file")]
)
def test_a_full_disk_is_said_in_one_sentence_and_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write(maker, path):
        with maker(path):
            raise error

    for maker, path in ((whole_file, target), (whole_folder, tmp_path / "folder")):
        with pytest.raises(DiskFull, match=f"no room on the disk for {path}: free some"):
            write(maker, path)
    with pytest.raises(DiskFull):
        cached_folder(tmp_path / "cache", lambda temporary: (_ for _ in ()).throw(error))
    assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"file.txt", "cache.lock.1"}


def test_a_built_folder_is_not_built_again(tmp_path):
    built = cached_folder(tmp_path / "folder", lambda temporary: (temporary / "first").write_text("first"))

    def build(temporary):
        raise AssertionError("built twice")

    assert cached_folder(tmp_path / "folder", build) == built


def test_a_folders_hashes_are_those_of_sha256sum_and_name_what_changed(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "abc").write_text("abc")
    (tmp_path / "deep" / "empty").write_text("")
    hashes = hashes_of(tmp_path)
    assert hashes == {
        "abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "deep/empty": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    (tmp_path / "more").write_text("more")
    assert damage_of(tmp_path, hashes) == ""
    (tmp_path / "abc").write_text("abd")
    assert damage_of(tmp_path, hashes) == "abc is not what was written"
    (tmp_path / "abc").unlink()
    assert damage_of(tmp_path, hashes) == "abc is gone or cannot be read"
    assert damage_of(tmp_path, {}) == "nobody noted what its files were"


def test_a_file_of_ours_that_is_damaged_is_one_sentence(tmp_path):
    table = pd.DataFrame({"value": np.random.default_rng(0).random(1000)})
    write_parquet(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "t.parquet"), table, check_exact=True)
    assert list(read_parquet(tmp_path / "t.parquet", columns=[])) == []
    write_json(tmp_path / "t.json", {"a": 1})
    for name, read in (("t.parquet", read_parquet), ("t.json", read_json)):
        path = tmp_path / name
        whole = path.read_bytes()
        middle = len(whole) // 4
        for damaged in (whole[:-5], b"", whole[:middle] + bytes(4) + whole[middle + 4 :]):
            path.write_bytes(damaged)
            with pytest.raises(Damaged, match=rf"{name} is damaged .*: delete it and run the same command again"):
                read(path)
        path.unlink()
        with pytest.raises(FileNotFoundError):
            read(path)


@pytest.mark.parametrize("text", ["", '{"ids.npy": 1', None])
def test_a_folder_whose_sizes_are_damaged_or_gone_is_built_again(tmp_path, text):
    sizes = tmp_path / "tokens.built.json"
    cached_folder(tmp_path / "tokens", lambda folder: (folder / "ids.npy").write_bytes(b"1"))
    sizes.unlink() if text is None else sizes.write_text(text)
    file = cached_folder(tmp_path / "tokens", lambda folder: (folder / "ids.npy").write_bytes(b"22")) / "ids.npy"
    assert file.read_bytes() == b"22"
    time = file.stat().st_mtime_ns
    assert read_json(sizes) == {"ids.npy": [2, time, hashlib.sha256(b"22").hexdigest()]}
    file.write_bytes(b"22")  # as a copy has another time
    os.utime(file, ns=(0, time + 10**9))
    cached_folder(tmp_path / "tokens", None)
    assert read_json(sizes)["ids.npy"][1] == time + 10**9
    file.write_bytes(b"2\0")
    assert cached_folder(tmp_path / "tokens", lambda folder: (folder / "ids.npy").write_bytes(b"3")) / "ids.npy" == file
    assert file.read_bytes() == b"3"


def test_what_was_being_written_when_its_process_was_killed_is_removed_and_nothing_else(tmp_path):
    kept = [tmp_path / "whole.csv", tmp_path / ".lock.12", tmp_path / "runs" / ".hidden", tmp_path / ".x.building"]
    (tmp_path / "runs").mkdir()
    for file in kept:
        file.write_text("kept")
    killed = (
        "import os, pathlib; from rankscale_utils.machine.files import whole_file, whole_folder\n"
        f"with whole_file(pathlib.Path({str(tmp_path)!r}, 'a.html')), whole_folder(pathlib.Path({str(tmp_path)!r}, "
        "'runs', 'exposure-1')) as half:\n    (half / 'config.json').touch()\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -signal.SIGKILL
    assert len([path for path in tmp_path.rglob("*") if path not in kept]) == 4  # both halves, a file, a folder
    remove_halves(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["runs"]
