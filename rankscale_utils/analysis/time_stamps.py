"""Whose clock a seal's time is: its machine's own, or an authority's whose token is kept beside the seal."""

from pathlib import Path

from rankscale_utils.machine import time_stamps
from rankscale_utils.machine.files import read_json, whole_file, write_json
from rankscale_utils.machine.progress import say
from rankscale_utils.study import paths
from rankscale_utils.study.time_stamp import TimeStamp

OWN_CLOCK = "by its machine's own clock, which nobody attests"


def ask_for_token(seal: Path, sha256: str, authority: TimeStamp | None) -> None:
    """Keep an authority's token over a seal's hash beside it, or why there is none; nothing where none is named."""
    if authority is None:
        return
    stamp = {"authority": authority.authority, "time": None, "reason": None}
    try:
        token = time_stamps.ask(authority.authority, sha256)
        stamp["time"] = time_stamps.stamped_at(token, sha256).isoformat(timespec="seconds")
        with whole_file(paths.token_file(seal)) as temporary:
            temporary.write_bytes(token)
    except time_stamps.NoToken as error:
        stamp["reason"] = " ".join(str(error).split())
        say(f"{seal.name}: no time-stamp token was got, as {stamp['reason']}; it is sealed {OWN_CLOCK}")
    write_json(paths.stamp_file(seal), stamp)


def clock_of(seal: Path) -> str:
    """Say whose clock a seal's time is, as its authority was found to answer when it was asked."""
    if not paths.stamp_file(seal).is_file():
        return OWN_CLOCK
    stamp = read_json(paths.stamp_file(seal))
    if stamp["time"] is None:
        return f"{OWN_CLOCK}, as no token was got: {stamp['reason']}"
    return f"as {stamp['authority']} attests with its own clock's {stamp['time']} (RFC 3161)"
