"""Makes `import torchvision` work beside a torch that cannot load torchvision's C++ operators.

Knows Python's import system; knows no model and imports neither torch nor torchvision itself.

The registries' torchvision is built for CUDA. Beside a CPU-only torch its operators do not load,
which it tolerates, and then it registers shape functions for `torchvision::nms` (0.28: `qnms` too),
which raises. Here these registrations are passed over, and only these: models, weights' metadata,
transforms and image folders need no operator. Those that do (nms, roi_align, decode_image) still
raise when called. Where the operators load, nothing is changed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:  # At run time importlib.abc takes 8 ms, and duck typing is all that is needed.
    from importlib.abc import Loader

_REGISTRATIONS = "torchvision._meta_registrations"
_COMPILER = "torch._dynamo.utils"
_NAMESPACE = "torchvision::"

_Function = TypeVar("_Function", bound=Callable[..., object])


def install() -> None:
    """Arms the hook for this process, once; it acts when torchvision is imported, if ever."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def torchvision_models() -> Any:
    """`torchvision.models`, imported without torch's compiler, which takes 1.4 of 1.5 seconds.

    torchvision asks it one question, where a detector runs without its operators; it is imported
    for that.
    """
    if "torchvision.ops.roi_align" in sys.modules or _COMPILER in sys.modules:
        return import_module("torchvision.models")
    asked_later = ModuleType(_COMPILER)
    asked_later.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = asked_later
    try:
        return import_module("torchvision.models")
    finally:
        del sys.modules[_COMPILER]


def _is_compile_supported(device: object) -> object:
    return import_module(_COMPILER).is_compile_supported(device)


class _Finder:
    """Finds one module, where everyone else would, and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REGISTRATIONS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _RegistrationsLoader(spec.loader))
        return spec


class _RegistrationsLoader:
    """Runs the module as its own loader does, without registrations for operators not there."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Before the first registration is tried: defining an operator that does load later on
        # aborts the process, and a wrapped register_fake mistakes the calling module.
        if import_module("torchvision.extension")._has_ops():
            self._loader.exec_module(module)
            return
        with _registrations_passed_over():
            self._loader.exec_module(module)


@contextmanager
def _registrations_passed_over() -> Iterator[None]:
    library: Any = import_module("torch.library")
    register_fake = library.register_fake

    def register_if_there(operator: object, /, *args: object, **options: object) -> object:
        if isinstance(operator, str) and operator.startswith(_NAMESPACE):
            return _unchanged
        return register_fake(operator, *args, **options)

    library.register_fake = register_if_there
    try:
        yield
    finally:
        library.register_fake = register_fake


def _unchanged(function: _Function) -> _Function:
    return function
