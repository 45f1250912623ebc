"""Checkpoints: written whole or not at all, vouched for by their run's ledger, and opened again."""

from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from rankscale_utils.errors import StudyError
from rankscale_utils.machine.files import damage_of, hashes_of, read_json, whole_folder
from rankscale_utils.study import paths

from .export import Model, empty_model_of, read_layout, write_layout


def save_checkpoint(model: Model, path: Path, tokens: Path, weights: dict[str, Tensor] | None = None) -> dict[str, str]:
    """Write a checkpoint, whole or not at all, that its users' own tools load; return every file's SHA-256 by name.

    `tokens` is the folder that holds the study's tokenizer; `weights`, the whole model's, are given when the model
    itself holds only its part of them.
    """
    with whole_folder(path) as temporary:
        write_layout(model, model.state_dict() if weights is None else weights, temporary, tokens)
        return hashes_of(temporary)


def load_checkpoint(model: Model, path: Path) -> Model:
    """Read a checkpoint's weights into a model of the same shape, and return it.

    Raises:
        StudyError: the checkpoint is damaged or gone.
    """
    try:
        read_layout(model, path)
    except (OSError, SafetensorError) as error:
        raise StudyError(f"checkpoint {path} is damaged or gone: train its run again.") from error
    return model


def open_checkpoint(model: Model, path: Path) -> Model:
    """Read a run's checkpoint into a model of the same shape, once its files are those that the run's ledger names.

    Raises:
        StudyError: a file is damaged or gone. The ledger, which vouches for it, is removed, so that the next command
            trains the run again.
    """
    run, ledger = path.parent, paths.ledger_file(path.parent)
    rows = {paths.checkpoint_file(run, row["exposure"]): row for row in read_json(ledger)["checkpoints"]}
    damage = damage_of(path, rows[path].get("files", {}))
    if not damage:
        return load_checkpoint(model, path)
    ledger.unlink()
    raise StudyError(
        f"checkpoint {path} is damaged: {damage}: run the same command again, which trains run {run.name} anew and "
        "nothing else."
    )


def model_of_folder(folder: Path) -> Model:
    """Return the model of a checkpoint's folder, of whatever family, ready to score; no code of the folder is run.

    Raises:
        StudyError: the folder is no checkpoint that a study wrote, or it is damaged.
    """
    try:
        if not (folder / "config.json").is_file():
            raise OSError("it has no config.json")
        model = empty_model_of(folder)
        read_layout(model, folder)
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".:")
        raise StudyError(
            f"{folder} is no checkpoint that a study wrote, or it is damaged ({reason}): name a folder such as "
            "runs/demo/listwise-w8-s0/exposure-000007680."
        ) from None
    return model.eval()
