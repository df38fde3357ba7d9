"""What is run, by names: command lines as a user types them, in a folder that `pictures` lays out.

Each reads what an older adabn wrote into given/, and nothing that another of them writes.
"""

from __future__ import annotations

_INPUT = "--img-size 16 --mean 0.13 --std 0.26"
_ARCH = "--arch given/nets.py:Net"
_NET = f"given/net.pt {_ARCH} {_INPUT}"
_TARGET = "-t target -b 8"
_RUN = f"{_TARGET} -o run -q"
_SHARDS = "given/shard-1.safetensors given/shard-2.safetensors"
_PROFILE = "--profile given/digits.profile"

#: The resumed one goes on with a copy of given/stopped.partial that lies in its folder.
COMMANDS = {
    "adapt": f"adapt {_NET} {_RUN} --verify",
    "adapt matched": f"adapt {_NET} {_RUN} {_PROFILE} --verify",
    "adapt auto": f"adapt {_NET} {_RUN} {_PROFILE} --method auto",
    "adapt one-pass": f"adapt {_NET} {_RUN} --engine one-pass --alpha 0.7 --layers !1",
    "adapt online": f"adapt {_NET} {_RUN} --engine online --momentum 0.1",
    "adapt until converged": f"adapt {_NET} {_RUN} --until-converged 0.2 --labels none",
    "adapt with more data": f"adapt {_NET} {_RUN} --labels labels.csv --eval source --prior auto",
    "adapt every kind": f"adapt given/every_kind.pt {_RUN} --method auto",
    "adapt every kind without profile": f"adapt given/every_kind.pt {_RUN} --method adabn",
    "adapt no statistics": f"adapt given/no_statistics.pt {_RUN}",
    "adapt maps": f"adapt given/maps.pt --arch given/nets.py:Maps {_INPUT} {_RUN} --masks masks",
    "adapt safetensors": f"adapt given/net.safetensors {_ARCH} {_INPUT} {_RUN} --prior 16",
    "adapt TorchScript": f"adapt given/net.torchscript {_INPUT} {_RUN}",
    "adapt pt2": f"adapt given/net.pt2 {_INPUT} {_RUN}",
    "adapt ONNX": f"adapt given/net.onnx {_INPUT} {_RUN}",
    "adapt folded ONNX": f"adapt given/folded.onnx {_INPUT} {_RUN} --reference given/net.onnx",
    "adapt resumed": f"adapt {_NET} {_TARGET} -q --arch given/nets.py:Interrupted --verify "
    "--resume stopped",
    "watch": f"watch given/net.pt target {_ARCH} {_INPUT} --every 16 --once --interval 0 -o run -q",
    "profile": f"profile {_NET} --source source -o out.profile",
    "profile every kind": "profile given/every_kind.pt --source source -o out.profile",
    "profile no statistics": "profile given/no_statistics.pt --source source -o out.profile",
    "collect": f"collect {_NET} {_TARGET} --shard 1/2 -o shard-1.safetensors --json",
    "merge": f"merge given/net.pt {_ARCH} {_SHARDS} --json",
    "apply": f"apply given/net.pt given/run/pack.safetensors {_ARCH} -o model.pt",
    "apply revert": f"apply given/run/model.pt given/run/pack.safetensors {_ARCH} --revert "
    "-o model.pt",
    "apply to ONNX": "apply given/net.onnx given/run/pack.safetensors -o model.onnx",
    "convert": f"convert given/net.pt {_ARCH} -o model.safetensors",
    "convert to ONNX": f"convert given/net.pt {_ARCH} --img-size 16 -o model.onnx",
    "evaluate": f"evaluate {_NET} -d target --pack given/run/pack.safetensors --json",
    "inspect": "inspect given/every_kind.pt --json",
    "report": "report given/run --md run.md --junit run.xml --openmetrics run.txt "
    "--model-card card.md --fail-on accuracy_drop>50pp --json",
    "report against a baseline": "report given/run --baseline given/run --warn-on residual>1e-3",
}
