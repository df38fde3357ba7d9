"""Model files: containers of tensors, and the networks that are built from them."""

from __future__ import annotations

#: A container's format -> the module that knows where its tensors lie; imported when asked for.
FORMATS = {
    "torch-zip": "adabn_cli.models.containers.torch_zip",
    "torch-legacy": "adabn_cli.models.containers.torch_legacy",
    "safetensors": "adabn_cli.models.containers.safetensors_file",
    "onnx": "adabn_cli.models.onnx.file",
    "torchscript": "adabn_cli.models.graphs.torchscript",
    "exported-program": "adabn_cli.models.graphs.exported",
}

#: A model folder's kind -> the module that knows its configuration. The first that does is taken.
FOLDERS = {
    "timm-folder": "adabn_cli.models.folders.timm",
    "smp-folder": "adabn_cli.models.folders.smp",
    "transformers-folder": "adabn_cli.models.folders.transformers",
}
