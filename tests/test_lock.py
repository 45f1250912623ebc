"""Every package of the lock but torch has its hashes."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pins(name):
    text = (ROOT / name).read_text(encoding="utf-8").replace(" \\\n", " ")
    return {line.partition(" --hash")[0].strip(): len(re.findall("--hash=sha256:", line)) for line in text.splitlines()}


def test_every_package_but_torch_has_its_hashes():
    hashed = pins("requirements.hashes")
    assert {pin for pin in pins("requirements.lock") if not pin.startswith("torch==")} == set(hashed)
    assert min(hashed.values()) >= 1
