"""Folders that segmentation-models-pytorch writes (`save_pretrained`): a class and its arguments.

Knows no weights. What pictures are normalized by is not in them, only on the hub.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from adabn_cli.models.architectures.build import Architecture
from adabn_cli.models.folders.folder import CONFIG, FolderKind, ModelFolder
from adabn_cli.models.metadata import Metadata


class SmpFolder(FolderKind):
    """What segmentation-models-pytorch's `save_pretrained` writes."""

    name = "smp-folder"
    library = "segmentation-models-pytorch"

    def describes(self, config: Mapping[str, Any]) -> bool:
        """Whether it names a class and an encoder."""
        return isinstance(config.get("_model_class"), str) and "encoder_name" in config

    def metadata(self, folder: ModelFolder) -> Metadata:
        """Nothing but which published weights the encoder began with."""
        began = folder.config.get("encoder_weights")
        if not isinstance(began, str):
            return Metadata()
        note = (
            f"the encoder began with the weights {began!r} of {folder.config['encoder_name']}; "
            "the normalization that goes with them is not in the folder"
        )
        return Metadata(notes=(note,))

    def build(self, folder: ModelFolder, entries: Mapping[str, Tensor]) -> Architecture:
        """The library's class, without the encoder's published weights, which would be fetched."""
        library = folder.require("segmentation_models_pytorch", "smp")
        name = folder.config["_model_class"]
        known = library.MODEL_ARCHITECTURES_MAPPING
        if name.lower() not in known:
            folder.refuse(
                f"segmentation-models-pytorch {library.__version__} has no class {name!r}.",
                "Update it: pip install --upgrade segmentation-models-pytorch.",
            )
        given = {key: value for key, value in folder.config.items() if not key.startswith("_")}
        with folder.building():
            module = known[name.lower()](**{**given, "encoder_weights": None})
        described = f"segmentation-models-pytorch:{name} ({given['encoder_name']})"
        return Architecture(
            name=described, source=CONFIG, module=module, preprocessing=None, classes=None
        )
