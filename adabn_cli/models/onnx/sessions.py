"""The stages of an ONNX graph in onnxruntime: a session each, made once. Knows no normalizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from adabn_cli.errors import ModelError, UsageError
from adabn_cli.models.onnx.graph import reads
from adabn_cli.models.onnx.stages import Stage

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

Array = NDArray[Any]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# Fatal errors alone: what goes wrong is raised too, and warnings are about speed.
_SEVERITY = 4


@dataclass
class _Session:
    """A session and which of its inputs are fed beside the values that cross."""

    runner: Any
    fed: tuple[str, ...]


@dataclass(kw_only=True)
class Sessions:
    """Runs stages of a model. Both functions give what stands for a name, None if nothing does.

    What is `stored` becomes part of a session; what is `fed` is an input of it, and can change
    without a new one.
    """

    proto: ModelProto
    stored: Callable[[str], TensorProto | None]
    fed: Callable[[str], Array | None]
    device: torch.device
    _made: dict[Stage, _Session] = field(default_factory=dict)

    def run(self, stage: Stage, values: Mapping[str, Any]) -> list[Any]:
        """What a stage gives, in its order. Raises ModelError if onnxruntime cannot run it."""
        try:
            session = self._made.get(stage)
            if session is None:
                session = self._made[stage] = self._make(stage, values)
            feeds: dict[str, Array | None] = {name: values[name] for name in stage.takes}
            feeds |= {name: self.fed(name) for name in session.fed}
            results: list[Any] = session.runner.run(list(stage.gives), feeds)
        except Exception as error:
            # onnxruntime's errors have no class of their own in common.
            if type(error).__module__.startswith("onnxruntime"):
                raise _failed(error) from error
            raise
        return results

    def forget(self) -> None:
        """Has every session made anew: something that is stored in them has changed."""
        self._made.clear()

    def _make(self, stage: Stage, values: Mapping[str, Any]) -> _Session:
        import onnxruntime
        from onnx import ValueInfoProto, helper

        names = sorted({name for node in stage.nodes for name in reads(node)})
        given = {name: self.fed(name) for name in names}
        fed = {name: value for name, value in given.items() if value is not None}
        inputs: dict[str, Any] = {**{name: values[name] for name in stage.takes}, **fed}
        if strange := [name for name, x in inputs.items() if not isinstance(x, np.ndarray)]:
            raise ModelError(
                "A value that is not a tensor is needed on both sides of a normalizer.",
                where=strange[0],
                hint="Export the model without sequences of tensors.",
            )
        stored = [self.stored(name) for name in names if name not in inputs]
        graph = helper.make_graph(
            stage.nodes,
            "stage",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
                )
                for name, value in inputs.items()
            ],
            [ValueInfoProto(name=name) for name in stage.gives],
            [tensor for tensor in stored if tensor is not None],
        )
        model = helper.make_model(
            graph,
            opset_imports=self.proto.opset_import,
            # From version 4 on an initializer need not be an input as well.
            ir_version=max(self.proto.ir_version, 4),
        )
        runner = onnxruntime.InferenceSession(
            model.SerializeToString(), _options(), providers=_providers(self.device)
        )
        return _Session(runner, tuple(fed))


def best_device(device: torch.device) -> torch.device:
    """The device, or the CPU if onnxruntime does not know it."""
    try:
        import onnxruntime
    except ImportError:
        return torch.device("cpu")
    known = device.type != "cuda" or _CUDA in onnxruntime.get_available_providers()
    return device if known else torch.device("cpu")


def require_onnxruntime(device: torch.device) -> None:
    """Raises ModelError if onnxruntime is missing, UsageError if it lacks the device."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "The model file is an ONNX model, and the library that runs it is missing.",
            hint='Install it: pip install "adabn[onnx]".',
        ) from error
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and _CUDA not in onnxruntime.get_available_providers()
    ):
        raise UsageError(
            f"The device {str(device)!r} cannot be used by the onnxruntime that is installed.",
            hint="Use --device cpu, or install onnxruntime-gpu.",
        )


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = _SEVERITY
    # Every stage has threads of its own; spinning ones would take turns from those that work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # An arena for each session would keep what all chunks held at every stage: 4.9 GB instead of
    # 1.5 for resnet18 and 64 images of 224 px. Without any, the kernel gives and takes every value,
    # which costs half a pass.
    _share_one_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@cache
def _share_one_arena() -> None:
    """Has all sessions of this process take their memory from one place."""
    import onnxruntime

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # No limit, and as much at a time as is asked for: doubling would take what nobody needs.
    settings = onnxruntime.OrtArenaCfg(0, 1, -1, -1)
    onnxruntime.create_and_register_allocator(memory, settings)


def _providers(device: torch.device) -> list[Any]:
    if device.type == "cuda":
        return [(_CUDA, {"device_id": device.index or 0}), _CPU]
    return [_CPU]


def _failed(error: Exception) -> ModelError:
    return ModelError(
        "onnxruntime cannot run the model.",
        where=str(error).strip().splitlines()[0][:300],
        hint="Check --img-size. A newer onnxruntime may know more: pip install -U onnxruntime.",
    )
