"""Adapts a trained image model to unlabeled pictures by re-estimating its normalization statistics.

Importing this package imports neither torch nor torchvision.
"""

from __future__ import annotations

from adabn_cli import torchvision_import

__version__ = "0.1.0"

# Here, so that data loading workers get it too, however they are started.
torchvision_import.install()
