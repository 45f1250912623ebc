"""Time-stamp tokens (RFC 3161) by the command `openssl ts`: asked for, and checked."""

import http.client
import re
import ssl
import subprocess
import tempfile
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

PATIENCE = 20.0  # seconds that an authority has to answer
MOST_BYTES = 1 << 20  # of an answer
QUERY = {"Content-Type": "application/timestamp-query"}
TIME = re.compile(r"^Time stamp: (\w{3}) +(\d+) (\d\d):(\d\d):(\d\d)(?:\.\d+)? (\d{4}) GMT$", re.M)
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
BYTES = re.compile(r"^ +[0-9a-f]{4} - ([0-9a-f -]+?)(?:   .*)?$", re.M)  # of a dump of what was stamped


class NoToken(Exception):
    """There is no token, or none that holds; the message says why, as the end of a sentence."""


def ask(authority: str, sha256: str) -> bytes:
    """Return an authority's answer to a query for a token over a SHA-256 (hex).

    Raises:
        NoToken: it does not answer, refuses, or what it answers is no token over that hash.
    """
    with tempfile.TemporaryDirectory() as folder:
        query = Path(folder) / "query.tsq"
        _openssl("-query", "-digest", sha256, "-sha256", "-cert", "-out", str(query))
        request = urllib.request.Request(authority, query.read_bytes(), QUERY)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            token = answer.read(MOST_BYTES)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoToken(f"{authority} did not answer ({getattr(error, 'reason', error)})") from error
    stamped_at(token, sha256)
    return token


def stamped_at(token: bytes, sha256: str) -> datetime:
    """Return the time that a token states, in UTC; who signed it is not checked here.

    Raises:
        NoToken: it is none, or one over another hash.
    """
    said = _with_token(token, "-reply", "-text")
    if not re.search(r"^Status: Granted", said, re.M) or (found := TIME.search(said)) is None:
        status = re.search(r"^(Status description|Failure info): (.+)$", said.replace("unspecified", ""), re.M)
        raise NoToken(f"the authority refused ({status[2]})" if status else "the authority granted no token")
    dump = said.partition("Message data:")[2].partition("Serial number:")[0]
    if re.sub(r"[^0-9a-f]", "", "".join(BYTES.findall(dump))) != sha256:
        raise NoToken("the token is over another hash")
    month, day, hour, minute, second, year = found.groups()
    return datetime(int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)


def check(token: bytes, sha256: str, certificates: Path | None = None) -> None:
    """Make sure that a token over a SHA-256 was signed by an authority that these certificates, or the system, trust.

    Raises:
        NoToken: it was not.
    """
    if certificates is not None:
        trusted = ["-CAfile", str(certificates)]
    else:
        places = ssl.get_default_verify_paths()
        trusted = ["-CAfile", places.cafile] if places.cafile else ["-CApath", places.capath or "/etc/ssl/certs"]
    when = str(int(stamped_at(token, sha256).timestamp()))  # certificates need not be valid for ever
    _with_token(token, "-verify", "-digest", sha256, "-attime", when, *trusted)


def _with_token(token: bytes, *arguments: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".tsr") as file:
        file.write(token)
        file.flush()
        return _openssl(arguments[0], "-in", file.name, *arguments[1:])


def _openssl(*arguments: str) -> str:
    try:
        done = subprocess.run(["openssl", "ts", *arguments], capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        raise NoToken("the command openssl is not installed") from None
    except subprocess.TimeoutExpired:
        raise NoToken("openssl did not end") from None
    if done.returncode:
        lines = [line.split(":") for line in done.stderr.splitlines() if line.count(":") > 7]
        reasons = [": ".join(filter(None, [parts[5], *parts[8:]])) for parts in lines]  # beside places in its source
        raise NoToken(f"openssl says {reasons[0] if reasons else 'nothing more'}")
    return done.stdout
