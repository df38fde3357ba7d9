"""All kinds of model folders, and the model in a folder of any kind."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.errors import ModelError
from adabn_cli.models.folders.folder import CONFIG, FolderKind, ModelFolder, json_in
from adabn_cli.models.folders.smp import SmpFolder
from adabn_cli.models.folders.timm import TimmFolder
from adabn_cli.models.folders.transformers import TransformersFolder

#: The first that knows a configuration is taken.
FOLDERS: tuple[FolderKind, ...] = (TimmFolder(), SmpFolder(), TransformersFolder())

#: The files that the libraries load, in their order.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
#: Runs of adabn in a model's folder are no part of it; nor is what hidden folders keep (.git).
_NOT_THE_MODEL = "adabn-runs"
_CHECKPOINTS = (".pth", ".pt", ".th", ".safetensors", ".ckpt", ".bin")


def folder_kind_of(path: Path) -> FolderKind:
    """The kind of a folder. Raises ModelError if it has no configuration, or one of no kind."""
    if not (path / CONFIG).is_file():
        raise ModelError(
            f"The model is a folder without a {CONFIG}.",
            where=str(path),
            hint=f"Give the checkpoint inside it{_checkpoints_in(path)}, or a folder of timm, "
            "transformers or segmentation-models-pytorch.",
        )
    config = json_in(path / CONFIG)
    for kind in FOLDERS:
        if kind.describes(config):
            return kind
    raise ModelError(
        "The folder's config.json is not one of timm, transformers or segmentation-models-pytorch.",
        where=str(path / CONFIG),
        hint="Give the file of weights inside the folder, and --arch if its keys do not tell.",
    )


def read_folder(path: Path) -> ModelFolder:
    """The model in a folder. Raises ModelError if its configuration or weights are missing."""
    kind, weights = folder_kind_of(path), weights_in(path)
    others = tuple(
        found.relative_to(path)
        for found in sorted(path.rglob("*"))
        if found.is_file()
        and found != weights
        and not (parts := found.relative_to(path).parts)[0].startswith(_NOT_THE_MODEL)
        and not any(part.startswith(".") for part in parts[:-1])
    )
    config = json_in(path / CONFIG)
    return ModelFolder(path=path, kind=kind, config=config, weights=weights, others=others)


def weights_in(folder: Path) -> Path:
    """The file of weights that a model's library would load.

    Raises ModelError if there is none, and if they are split over several.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise ModelError(
                "The folder's weights are split over several files.",
                where=str(folder / f"{name}.index.json"),
                hint='Save them in one: model.save_pretrained(DIR, max_shard_size="100GB").',
            )
    raise ModelError(
        f"The folder has a {CONFIG} but no weights.",
        where=str(folder),
        hint=f"Put {' or '.join(_WEIGHTS)} there, or give the checkpoint itself.",
    )


def _checkpoints_in(folder: Path) -> str:
    """ ", for example X" if the folder holds a likely checkpoint."""
    found = sorted(file for file in folder.iterdir() if file.suffix in _CHECKPOINTS)
    return f", for example {found[0]}" if found else ""
