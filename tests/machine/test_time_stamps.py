import shutil
from datetime import UTC, datetime

import pytest

from rankscale_utils.machine.time_stamps import NoToken, ask, check, stamped_at
from tests.time_stamp_authority import Authority

SHA256 = "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def test_a_token_states_the_authoritys_time_and_holds_against_its_certificates_alone(tmp_path):
    authority, before = Authority(tmp_path), datetime.now(UTC).replace(microsecond=0)
    with authority.serving(tmp_path) as address:
        token = ask(address, SHA256)
    assert before <= stamped_at(token, SHA256) <= datetime.now(UTC)
    check(token, SHA256, authority.certificates)
    with pytest.raises(NoToken, match="certificate verify error"):
        check(token, SHA256)
    with pytest.raises(NoToken, match="the token is over another hash"):
        check(token, SHA256.replace("9", "8"), authority.certificates)
    spoiled = bytearray(token)
    spoiled[-5] ^= 1  # in the signature
    with pytest.raises(NoToken, match="openssl says"):
        check(bytes(spoiled), SHA256, authority.certificates)


def test_why_there_is_no_token_is_said(tmp_path, monkeypatch):
    with Authority(tmp_path, digests="sha512").serving(tmp_path) as address, pytest.raises(NoToken) as caught:
        ask(address, SHA256)
    assert str(caught.value) == "the authority refused (Message digest algorithm is not supported.)"
    with pytest.raises(NoToken, match=r"did not answer .*refused"):
        ask(address, SHA256)
    with pytest.raises(NoToken, match="openssl says"):
        stamped_at(b"<html>", SHA256)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoToken, match="the command openssl is not installed"):
        ask(address, SHA256)
