"""Model files: containers of tensors, and the networks that are built from them."""

from __future__ import annotations

#: A container's format -> the module that knows where its tensors lie; imported when asked for.
FORMATS = {
    "torch-zip": "adabn_cli.checkpoints.torch_zip",
    "torch-legacy": "adabn_cli.checkpoints.torch_legacy",
    "safetensors": "adabn_cli.checkpoints.safetensors_file",
    "onnx": "adabn_cli.checkpoints.onnx_file",
    "torchscript": "adabn_cli.checkpoints.torchscript",
    "exported-program": "adabn_cli.checkpoints.exported_program",
}

#: A model folder's kind -> the module that knows its configuration. The first that does is taken.
FOLDERS = {
    "timm-folder": "adabn_cli.checkpoints.timm_folder",
    "smp-folder": "adabn_cli.checkpoints.smp_folder",
    "transformers-folder": "adabn_cli.checkpoints.transformers_folder",
}
