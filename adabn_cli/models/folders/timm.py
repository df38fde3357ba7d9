"""Folders that timm writes (`save_for_hf`): a name in timm's registry, and a pretrained_cfg.

Also transformers' wrapper of timm models, whose folders say the same. Knows no weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from adabn_cli.models.architectures.build import Architecture, build_named
from adabn_cli.models.architectures.libraries import shapes_of
from adabn_cli.models.folders.folder import CONFIG, FolderKind, ModelFolder
from adabn_cli.models.metadata import Metadata, read_metadata

#: What create_model takes that loads or fetches something, or gives another kind of network.
_NOT_FOR_BUILDING = (
    "cache_dir",
    "checkpoint_path",
    "exportable",
    "features_only",
    "no_jit",
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "scriptable",
)
_WRAPPER_PREFIX = "timm_model."


class TimmFolder(FolderKind):
    """What timm's `save_for_hf` writes."""

    name = "timm-folder"
    library = "timm"

    def describes(self, config: Mapping[str, Any]) -> bool:
        """Whether it names an architecture as timm does."""
        return isinstance(config.get("architecture"), str)

    def metadata(self, folder: ModelFolder) -> Metadata:
        """Preprocessing from the pretrained_cfg, which was flat once, and the label names."""
        config = folder.config
        given = config.get("pretrained_cfg")
        given = given if isinstance(given, Mapping) else config
        names = config.get("label_names") or config.get("labels") or given.get("label_names")
        if isinstance(names, list) and all(str(name).startswith("LABEL_") for name in names):
            names = None  # What transformers fills in if nobody said any.
        plain = {key: value for key, value in given.items() if "label" not in key}
        said = read_metadata({"pretrained_cfg": plain, "label_names": names})
        preprocessing, notes = said.preprocessing, list(said.notes)
        if preprocessing is not None:
            preprocessing = replace(preprocessing, source=f"{CONFIG}: pretrained_cfg")
            mode = given.get("crop_mode") or "center"
            if mode != "center":
                notes.append(f"crop_mode {mode} of the pretrained_cfg is not known here: "
                             "the center of the picture is cut")  # fmt: skip
        return Metadata(
            preprocessing=preprocessing,
            classes=said.classes,
            classes_source=f"{CONFIG}: label_names" if said.classes else "",
            notes=tuple(notes),
        )

    def build(self, folder: ModelFolder, entries: Mapping[str, Tensor]) -> Architecture:
        """The architecture of timm's registry that the configuration names, sized as it says."""
        timm = folder.require("timm", "timm")
        name, arguments = folder.config["architecture"].partition(".")[0], _arguments(folder)
        if name not in timm.list_models():
            folder.refuse(
                f"timm {timm.__version__} has no architecture {name!r}.",
                "Update it: pip install --upgrade timm.",
            )
        shapes = {key.removeprefix(_WRAPPER_PREFIX): x for key, x in shapes_of(entries).items()}
        with folder.building():
            built = build_named("timm", name, arguments, shapes)
        return replace(built, source=CONFIG)


def _arguments(folder: ModelFolder) -> dict[str, object]:
    """What the configuration gives the builder. Raises ModelError for what is none of its own."""
    given = folder.config.get("model_args") or {}
    if not isinstance(given, Mapping):
        folder.refuse(
            "model_args does not hold arguments by name.", "Copy or download the folder again."
        )
    for key in given:
        if key in _NOT_FOR_BUILDING:
            folder.refuse(
                f"model_args.{key} does not belong to a network: it would load something else.",
                f"Take it out of {CONFIG} if you trust the rest of the folder.",
            )
    arguments = dict(given)
    for key in ("num_classes", "global_pool"):
        if folder.config.get(key) is not None:
            arguments.setdefault(key, folder.config[key])
    return arguments
