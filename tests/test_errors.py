import subprocess
import sys

import pytest

COMMAND = """
import sys
from rankscale_utils.errors import one_sentence

@one_sentence
def command():
    for number in range(int(sys.argv[1])):
        print(number)
    if sys.argv[2:]:
        raise BrokenPipeError(sys.argv[2])
    return 0

sys.exit(command())
"""


@pytest.mark.parametrize("lines", [10, 100_000])
def test_a_command_whose_reader_has_gone_ends_quietly(lines):
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(lines)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_a_command_without_a_place_to_print_to_ends_well():
    command = 'exec "$0" -c "$1" 10 >&-'
    told = subprocess.run(["sh", "-c", command, sys.executable, COMMAND], capture_output=True, text=True)
    assert (told.returncode, told.stderr) == (0, "")


def test_another_broken_pipe_is_told():
    told = subprocess.run([sys.executable, "-c", COMMAND, "1", "a worker"], capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (1, "0\n")
    assert told.stderr.endswith("BrokenPipeError: a worker\n")
