"""Random damage to any file that a study wrote: the same command makes it good, or refuses the file by its name."""

import random

from tests.faults.conftest import few
from tests.faults.finished import MARK, contents, differences, run, seals, start


def damage(file, chance):
    """Cut, zero, flip, fill, empty or remove a file; return what was done."""
    content = bytearray(file.read_bytes())
    place = chance.randrange(len(content) or 1)
    kind = chance.choice(["cut", "zeroed", "flipped", "longer", "emptied", "gone"])
    match kind:
        case "cut" | "emptied":
            content = content[: place * (kind == "cut")]
        case "zeroed":
            content[place:] = bytes(len(content) - place)
        case "flipped" if content:
            content[place] ^= 1 << chance.randrange(8)
        case "longer":
            content += bytes(3)
    file.unlink() if kind == "gone" else file.write_bytes(content)
    return kind


def ends(root):
    """Run the study until it ends well, three times at most; return what it said last, and whether it ended well."""
    for _ in range(3):
        process = start(root)
        said, _ = process.communicate(timeout=600)
        assert "Traceback" not in said, said[-3000:]
        if not process.returncode:
            return said, True
    return said, False


def assert_made_good_or_refused(root, seed):
    chance = random.Random(seed)
    parts = [root / part for part in ("runs", "reports", "cache", ".snakemake/metadata")]
    file = chance.choice(sorted(path for part in parts for path in part.rglob("*") if path.is_file()))
    before, sealed = contents(root), seals(root)
    kind, name = damage(file, chance), file.relative_to(root).as_posix()
    told = f"{name}, {kind}"
    said, well = ends(root)
    if "/seals/" in name:
        assert not well or kind == "gone", told
        assert well or file.name in said, told
        return
    assert well, f"{told}: {said[-2000:]}"
    assert seals(root) == sealed, told
    # A cache is made good when somebody needs it, and is till then what the damage made of it.
    spared = {name} if name.startswith("cache/") or "/written/" in name else set()
    assert set(differences(before, contents(root, spared))) <= spared, told


@few(ci=1, fuzz=3)
def test_random_damage_of_a_study_of_measurements(measured_root, seed):
    assert_made_good_or_refused(measured_root, seed)


@few(ci=0, fuzz=2)
def test_random_damage_of_a_study_that_trains(root, seed):
    assert_made_good_or_refused(root, seed)


def test_a_table_that_no_page_waits_for_is_made_again(measured_root):
    """Its stage did not run again: the first of its results, which was taken away, is one that nothing asks for."""
    before = contents(measured_root)
    (measured_root / "runs" / "tiny" / "rungs_on_tests.csv").unlink()
    assert "tiny/rungs_on_tests.csv is gone or not what was written: it is made again" in run(measured_root)
    assert differences(before, contents(measured_root)) == []


def test_modules_that_lie_in_the_root_are_not_imported(measured_root):
    assert (measured_root / "seaborn.py").is_file()
    assert not (measured_root / MARK).exists()
