"""Adapts a trained image model to unlabeled pictures by re-estimating its normalization statistics.

`adabn_cli.adapt(model, images)` does for a live module what `adabn adapt` does for a checkpoint.
Importing this package imports neither torch nor torchvision.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adabn_cli import torchvision_import
from adabn_cli.version import __version__

if TYPE_CHECKING:
    from adabn_cli.adaptation.profiles import Profile, read_profile
    from adabn_cli.jobs.live.module import adapt, profile
    from adabn_cli.normalizers.batch_renorm import (
        BatchRenorm1d,
        BatchRenorm2d,
        BatchRenorm3d,
        ClippingSchedule,
    )
    from adabn_cli.normalizers.mean_only_batch_norm import (
        MeanOnlyBatchNorm1d,
        MeanOnlyBatchNorm2d,
    )
    from adabn_cli.normalizers.norm_prop import (
        NormPropAvgPool2d,
        NormPropConv2d,
        NormPropLinear,
        NormPropMaxPool2d,
    )
    from adabn_cli.normalizers.norm_prop_input import (
        NormPropInput,
    )
    from adabn_cli.normalizers.weight_norm import (
        data_dependent_init,
        limit_v_norms,
        log_scale_weight_norm,
    )
    from adabn_cli.record import Record

__all__ = [
    "BatchRenorm1d",
    "BatchRenorm2d",
    "BatchRenorm3d",
    "ClippingSchedule",
    "MeanOnlyBatchNorm1d",
    "MeanOnlyBatchNorm2d",
    "NormPropAvgPool2d",
    "NormPropConv2d",
    "NormPropInput",
    "NormPropLinear",
    "NormPropMaxPool2d",
    "Profile",
    "Record",
    "__version__",
    "adapt",
    "data_dependent_init",
    "limit_v_norms",
    "log_scale_weight_norm",
    "profile",
    "read_profile",
]

# Public name -> the module it is imported from when first asked for.
_MODULES = {
    "adapt": "adabn_cli.jobs.live.module",
    "profile": "adabn_cli.jobs.live.module",
    "Profile": "adabn_cli.adaptation.profiles",
    "read_profile": "adabn_cli.adaptation.profiles",
    "Record": "adabn_cli.record",
    "BatchRenorm1d": "adabn_cli.normalizers.batch_renorm",
    "BatchRenorm2d": "adabn_cli.normalizers.batch_renorm",
    "BatchRenorm3d": "adabn_cli.normalizers.batch_renorm",
    "ClippingSchedule": "adabn_cli.normalizers.batch_renorm",
    "MeanOnlyBatchNorm1d": "adabn_cli.normalizers.mean_only_batch_norm",
    "MeanOnlyBatchNorm2d": "adabn_cli.normalizers.mean_only_batch_norm",
    "NormPropAvgPool2d": "adabn_cli.normalizers.norm_prop",
    "NormPropConv2d": "adabn_cli.normalizers.norm_prop",
    "NormPropLinear": "adabn_cli.normalizers.norm_prop",
    "NormPropMaxPool2d": "adabn_cli.normalizers.norm_prop",
    "NormPropInput": "adabn_cli.normalizers.norm_prop_input",
    "data_dependent_init": "adabn_cli.normalizers.weight_norm",
    "limit_v_norms": "adabn_cli.normalizers.weight_norm",
    "log_scale_weight_norm": "adabn_cli.normalizers.weight_norm",
}


# Here, so that data loading workers get it too, however they are started.
torchvision_import.install()


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: `adabn --help` does without torch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
