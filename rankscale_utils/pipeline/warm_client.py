"""A stand-in for `python` whose process is forked from a study's warm server (see `rankscale_utils.pipeline.warm`).

`python -I -S warm_client.py -m MODULE ARGUMENT …` does what `python -m MODULE ARGUMENT …` does, with this process's
environment, folder and files, and ends with its exit status. Without a server that answers, it becomes that command.
Only what starts quickly is imported.
"""

import json
import os
import signal
import socket
import sys
from typing import NoReturn

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_ANSWER = 60.0  # seconds that a server may import before a notebook starts without it


def ask() -> socket.socket | None:
    """Return a connection over which the server has accepted this command, or None when there is no such server."""
    request = {"argv": sys.argv[2:], "env": dict(os.environ), "cwd": os.getcwd()}
    body = json.dumps(request).encode()
    server = socket.socket(socket.AF_UNIX)
    server.settimeout(SECONDS_TO_ANSWER)
    try:
        server.connect(os.environ["RANKSCALE_WARM"])
        socket.send_fds(server, [len(body).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(body)
        return server if server.recv(1) else None
    except (KeyError, OSError):
        return None


def follow(server: socket.socket) -> int:
    """Pass signals on until the process has ended; return its exit status.

    The server ends the process when this one is gone, and this one goes when its own parent does.
    """
    for number in FORWARDED:
        signal.signal(number, lambda number, _: server.send(bytes([number])))
    parent = os.getppid()
    server.settimeout(1.0)
    while os.getppid() == parent:
        try:
            status = int(server.recv(8) or 1)
        except TimeoutError:
            continue
        except ConnectionResetError:
            return 1
        return status if status >= 0 else 128 - status  # ended by a signal: as a shell counts
    return 1


def cold() -> NoReturn:
    """Become the command that was asked for."""
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])


if __name__ == "__main__":
    connection = ask()
    sys.exit(follow(connection) if connection else cold())
