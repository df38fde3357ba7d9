"""Folders that transformers writes (`save_pretrained`): image classifiers and segmentation nets.

A network is built from its configuration, by a class that transformers itself has for it. Code that
a folder brings along (`auto_map`) is never run. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from adabn_cli.models.architectures.build import Architecture
from adabn_cli.models.folders.folder import CONFIG, FolderKind, ModelFolder
from adabn_cli.models.folders.processor import flips_channels, read_image_processor
from adabn_cli.models.metadata import Metadata, read_metadata

#: Where transformers lists which classes belong to which model_type.
_TASKS = (
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
)


class TransformersFolder(FolderKind):
    """What transformers' `save_pretrained` writes."""

    name = "transformers-folder"
    library = "transformers"

    def describes(self, config: Mapping[str, Any]) -> bool:
        """Whether it names a type of model."""
        return isinstance(config.get("model_type"), str)

    def metadata(self, folder: ModelFolder) -> Metadata:
        """Preprocessing from the image processor's configuration, classes from id2label."""
        preprocessing, notes = read_image_processor(_processor(folder))
        labels = folder.config.get("id2label")
        if isinstance(labels, Mapping) and all(
            str(name).startswith("LABEL_") for name in labels.values()
        ):
            labels = None  # What transformers fills in if nobody said any.
        said = read_metadata({"id2label": labels})
        return Metadata(
            preprocessing=preprocessing,
            classes=said.classes,
            classes_source=f"{CONFIG}: id2label" if said.classes else "",
            notes=(*said.notes, *notes),
        )

    def build(self, folder: ModelFolder, entries: Mapping[str, Tensor]) -> Architecture:
        """The class that transformers has for the configuration, with random weights.

        Raises ModelError for code of the folder's own, and for classes without an image's logits.
        """
        kind, name = folder.config["model_type"], _class_name(folder)
        if folder.config.get("auto_map"):
            folder.refuse(
                "The folder brings its own code (auto_map), which is never run.",
                "If you trust it, give the weights file and name the code: "
                f"{folder.weights} --arch path/to/file.py:callable.",
            )
        library = folder.require("transformers", "transformers")
        if name not in _known_classes(kind):
            folder.refuse(
                f"{name} of type {kind!r} is not an image classifier or segmentation network that "
                f"transformers {library.__version__} has.",
                "Give a folder of one, such as ResNetForImageClassification; or update "
                "transformers.",
            )
        # A backbone would be fetched with its published weights.
        given = {**folder.config, "use_pretrained_backbone": False}
        if "use_pretrained_backbone" not in folder.config:
            del given["use_pretrained_backbone"]
        with folder.building():
            config = library.CONFIG_MAPPING[kind].from_dict(given)
            module: nn.Module = getattr(library, name)(config).float()
        if flips_channels(_processor(folder)):
            module.register_forward_pre_hook(_flipped)
        return Architecture(
            name=f"transformers:{name}",
            source=CONFIG,
            module=module,
            preprocessing=None,
            classes=None,
        )

    def renamed(self, module: nn.Module, keys: Collection[str]) -> dict[str, str]:
        """Names by transformers' own table: version 5 renamed layers, and saves under old names.

        Empty if the installed version has no such table. Entries that it merges are left out.
        """
        try:
            loading: Any = import_module("transformers.core_model_loading")
            conversion: Any = import_module("transformers.conversion_mapping")
            table = conversion.get_model_conversion_mapping(module)
            renamings = [step for step in table if isinstance(step, loading.WeightRenaming)]
            return {loading.rename_source_key(key, renamings, [])[0]: key for key in keys}
        except (ImportError, AttributeError, TypeError):  # It is no public interface.
            return {}


def _flipped(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Blue, green, red for a network whose image processor flips the channels."""
    return (args[0].flip(1), *args[1:])


def _class_name(folder: ModelFolder) -> str:
    names = folder.config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        folder.refuse(
            "The configuration does not name the class of the network (architectures).",
            "Save the folder again with model.save_pretrained(DIR).",
        )
    return names[0]


def _known_classes(kind: str) -> set[str]:
    """The classes for a type of model, by transformers' own lists."""
    auto: Any = import_module("transformers.models.auto.modeling_auto")
    known: set[str] = set()
    for task in _TASKS:
        names = getattr(auto, task).get(kind, ())
        known |= {names} if isinstance(names, str) else set(names)
    return known


def _processor(folder: ModelFolder) -> Mapping[str, Any]:
    """The image processor's configuration; empty if there is none."""
    found = folder.read_json("preprocessor_config.json")
    if not found:
        inner = folder.read_json("processor_config.json").get("image_processor")
        found = inner if isinstance(inner, Mapping) else {}
    return found
