"""Adapts a trained image model to unlabeled pictures by re-estimating its normalization statistics.

`adabn_cli.adapt(model, images)` does for a live module what `adabn adapt` does for a checkpoint.
Importing this package imports neither torch nor torchvision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adabn_cli import torchvision_import

if TYPE_CHECKING:
    from adabn_cli.record import Record
    from adabn_cli.workflows.live import adapt

__version__ = "0.1.0"
__all__ = ["Record", "__version__", "adapt"]

# Here, so that data loading workers get it too, however they are started.
torchvision_import.install()


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: `adabn --help` does without torch."""
    if name == "adapt":
        from adabn_cli.workflows.live import adapt

        return adapt
    if name == "Record":
        from adabn_cli.record import Record

        return Record
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
