"""A folder of results that somebody else sends runs no code when it is opened."""

import ast
import io
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import torch

import rankscale_utils
from rankscale_utils.analysis.fit_store import MANIFEST, read_store, write_store
from rankscale_utils.study import paths
from rankscale_utils.training.distributed import Processes
from rankscale_utils.training.resume import resume_state
from rankscale_utils.training.trainer import Trainer

CPU = torch.device("cpu")


class Hostile:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_the_package_neither_pickles_nor_loads_what_runs():
    for file in Path(rankscale_utils.__file__).parent.rglob("*.py"):
        code = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (pickle|dill|joblib|cloudpickle|shelve|marshal)\b", code, re.M), file
        assert not re.search("read_pickle|allow_pickle=True", code), file
        for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
            if ast.unparse(call.func).endswith("torch.load"):
                assert "weights_only=True" in map(ast.unparse, call.keywords), file


def test_a_hostile_resume_file_runs_nothing(tiny_study, collection, tmp_path, capsys):
    run, mark = tiny_study.run("listwise-w4-s0"), tmp_path / "ran"
    folder = tiny_study.run_folder(run)
    folder.mkdir(parents=True)
    torch.save({"identity": "mine", "trunk": Hostile(mark), "checkpoints": []}, paths.resume_file(folder))
    trainer = Trainer(tiny_study, run, collection, CPU, Processes())
    assert resume_state(trainer, folder, "mine") == ([], None)
    assert "resume.pt is damaged, so the run starts again" in capsys.readouterr().err
    assert not mark.exists()
    torch.load(paths.resume_file(folder), weights_only=False)
    assert mark.exists()  # it would have run


def test_a_hostile_store_of_fits_runs_nothing(tmp_path):
    path, mark = tmp_path / "fits.npz", tmp_path / "ran"
    path.write_bytes(b"key" + pickle.dumps(Hostile(mark)))
    assert read_store(path, "key", []) is None
    np.save(payload := io.BytesIO(), np.array([Hostile(mark)], object), allow_pickle=True)
    for name in (MANIFEST, "array"):
        write_store(path, "key", {"array": np.arange(3)}, [])
        with zipfile.ZipFile(path) as whole:
            parts = {part: whole.read(part) for part in whole.namelist()}
        place = f"{MANIFEST}.npy" if name == MANIFEST else next(part for part in parts if part != f"{MANIFEST}.npy")
        with zipfile.ZipFile(path, "w") as changed:
            for part, content in (parts | {place: payload.getvalue()}).items():
                changed.writestr(part, content)
        assert read_store(path, "key", []) is None
    assert not mark.exists()
