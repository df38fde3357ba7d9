"""From a checkpoint's weights to the network that they belong to.

Asked in this order: the module that was pickled whole, the configuration of a model folder,
`--arch`, and the index of known architectures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.architectures.build import Architecture, build_architecture, load_entries
from adabn_cli.models.architectures.index import ArchitectureIndex
from adabn_cli.models.architectures.key_views import KeyView, key_views
from adabn_cli.models.architectures.libraries import LIBRARIES, shapes_of
from adabn_cli.models.architectures.parametrized_layers import parametrize_like, plain_entries
from adabn_cli.models.architectures.recognize import recognize_architecture
from adabn_cli.models.checkpoint import Checkpoint
from adabn_cli.models.folders.folder import ModelFolder
from adabn_cli.text import first_few


def network_of(
    checkpoint: Checkpoint, arch: str | None, arch_args: Mapping[str, object] | None
) -> tuple[Checkpoint, Architecture, tuple[str, ...]]:
    """The network with its weights in it, these by its keys, and what was noticed on the way.

    `arch` and `arch_args` are what the user said. Raises ModelError if no network fits the weights,
    UsageError if the file says itself which it is, or `arch` names none.
    """
    claimed = checkpoint.metadata.architecture
    if checkpoint.module is not None:
        if arch is not None:
            _require_its_class(checkpoint.module, checkpoint, arch, arch_args)
        return checkpoint, _pickled(checkpoint.module, claimed, arch), ()
    if arch_args and arch is None:
        raise UsageError(
            "--arch-args are for the callable that --arch names.", hint="Give --arch too."
        )
    views = list(key_views(checkpoint.entries, checkpoint.stripped))
    if checkpoint.folder is not None:
        built = _of_folder(checkpoint.folder, checkpoint, arch)
        renamed = checkpoint.folder.view(built.module, checkpoint.entries)
        view = _most_alike(built.module, [*views, renamed])
    elif arch is not None:
        built, view = _named(arch, arch_args or {}, checkpoint, views)
    else:
        view = _known(checkpoint, views)
        built = recognize_architecture(plain_entries(checkpoint.seen(view.names).entries), claimed)
    checkpoint = checkpoint.seen(view.names)
    parametrize_like(built.module, checkpoint.entries)
    notes = load_entries(built.module, checkpoint.entries, f"{checkpoint.path} into {built.name}")
    if view.left_out:
        one = len(view.left_out) == 1
        told = "1 entry is not part of the network and is left as it is" if one else (
            f"{len(view.left_out)} entries are not part of the network and are left as they are"
        )  # fmt: skip
        notes.append(f"{told}: {first_few(view.left_out, 3)}")
    return checkpoint, built, tuple(notes)


def _named(
    arch: str, arguments: Mapping[str, object], checkpoint: Checkpoint, views: Sequence[KeyView]
) -> tuple[Architecture, KeyView]:
    """What --arch names, and the view of the entries that has its keys."""
    built = build_architecture(arch, arguments, checkpoint.entries)
    view = _most_alike(built.module, views)
    if view is not views[0]:  # Its sizes were not told by the plain view.
        built = build_architecture(arch, arguments, checkpoint.seen(view.names).entries)
    return built, view


def _most_alike(module: nn.Module, views: Sequence[KeyView]) -> KeyView:
    """The first of the views that share the most keys with a network."""
    keys = module.state_dict().keys()
    return max(views, key=lambda view: len(keys & view.names.keys()))


def _known(checkpoint: Checkpoint, views: Sequence[KeyView]) -> KeyView:
    """The first view that the index has an architecture for; the plain one if it has none."""
    index = ArchitectureIndex.shipped()
    for view in views:
        entries = plain_entries(checkpoint.seen(view.names).entries)
        if view.whole and index.names(shapes_of(entries)):
            return view
    return views[0]


def _of_folder(folder: ModelFolder, checkpoint: Checkpoint, arch: str | None) -> Architecture:
    """The network that a folder's configuration describes."""
    if arch is not None:
        raise UsageError(
            "The folder says itself which architecture it holds.",
            where=f"--arch {arch}",
            hint="Leave out --arch, or give the weights file inside the folder instead of it.",
        )
    return folder.build(checkpoint.entries)


def _pickled(module: nn.Module, claimed: str | None, arch: str | None) -> Architecture:
    """A whole module is its own architecture; a library's class says what its publisher knows."""
    kind = type(module)
    plain = Architecture(
        name=arch or f"{kind.__module__}.{kind.__qualname__}",
        source="pickled whole, its class from --arch" if arch else "pickled whole",
        module=module,
        preprocessing=None,
        classes=None,
    )
    if kind.__module__.partition(".")[0] not in LIBRARIES:
        return plain
    try:
        known = recognize_architecture(module.state_dict(), claimed)
    except ModelError:
        return plain  # Several fit, or the user changed it: nothing is published for this one.
    return replace(known, module=module, source=f"pickled whole; {known.source}")


def _require_its_class(
    module: nn.Module,
    checkpoint: Checkpoint,
    arch: str,
    arch_args: Mapping[str, object] | None,
) -> None:
    """Raises UsageError if --arch is not what the classes of a trusted pickle came from."""
    kind, code = type(module), checkpoint.asked.code
    if code is not None and checkpoint.trusted_pickle and not arch_args:
        builder = None if isinstance(code.callable, type) else code.module.__name__
        if kind.__name__ == code.callee or kind.__module__ == builder:
            return
    raise UsageError(
        f"The file holds a whole module, a {kind.__qualname__}, which brings its own architecture.",
        where=f"--arch {arch}",
        hint="Leave out --arch and --arch-args, or name its class for --trust-pickle.",
    )
