"""A call that waits in the middle: greenlets, or threads if greenlet is missing.

Knows torch's thread-local state and nothing else of torch; no module, no site.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch

try:
    import greenlet
except ImportError:  # No wheel for this platform: threads give the same numbers, slower.
    greenlet = None

Result = TypeVar("Result")


class SuspendedCall(Protocol[Result]):
    """A function that is called a stretch at a time."""

    result: Result | None

    def advance(self) -> Any | None:
        """Runs to the next `wait` and returns what it was given; None once the call is over.

        What the function raises is raised here. Runs without gradients.
        """

    def wait(self, message: Any) -> None:
        """Called inside the function: hands `message` out and stays here until `advance`."""

    def close(self) -> None:
        """Ends the function where it waits, unwinding its frames; harmless after its end."""


#: The call that is running in this greenlet or thread. Both have a context of their own.
_CURRENT: ContextVar[SuspendedCall[Any] | None] = ContextVar("adabn_suspended_call", default=None)


def current_call() -> SuspendedCall[Any] | None:
    """The suspended call that this code runs in, if it does."""
    return _CURRENT.get()


def suspend(function: Callable[[], Result]) -> SuspendedCall[Result]:
    """A suspended call of `function`, not yet started."""
    return _ThreadCall(function) if greenlet is None else _GreenletCall(function)


class _TorchState:
    """torch's thread-local modes. Greenlets of one thread share them, so each keeps its own.

    Without it autocast inside one forward leaks into the next: a residual of 3e-3.
    """

    def __init__(self) -> None:
        self.grad = torch.is_grad_enabled()
        self.cache = torch.is_autocast_cache_enabled()
        self.autocast = [
            (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
            for device in ("cpu", "cuda")
        ]

    def restore(self) -> None:
        torch.set_grad_enabled(self.grad)
        torch.set_autocast_cache_enabled(self.cache)
        for device, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)


class _GreenletCall(Generic[Result]):
    """A call on a stack of its own in this thread."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self.result: Result | None = None
        self._greenlet = greenlet.greenlet(lambda: self._run(function))
        self._greenlet.gr_context = copy_context()  # Its own, with what the caller has set.
        self._inside: _TorchState | None = None

    def _run(self, function: Callable[[], Result]) -> None:
        _CURRENT.set(self)
        self.result = function()

    def advance(self) -> Any | None:
        # Not inference mode: what a model caches in its first forward (anchors, rotary tables)
        # would be an inference tensor for good, and training on would die of it.
        outside = _TorchState()
        torch.set_grad_enabled(False)
        self._greenlet.parent = greenlet.getcurrent()
        if self._inside is not None:
            self._inside.restore()
        try:
            return self._greenlet.switch()
        finally:
            outside.restore()

    def wait(self, message: Any) -> None:
        self._inside = _TorchState()
        self._greenlet.parent.switch(message)

    def close(self) -> None:
        if self._inside is not None and not self._greenlet.dead:
            outside = _TorchState()
            self._greenlet.parent = greenlet.getcurrent()
            self._greenlet.throw(greenlet.GreenletExit)
            outside.restore()


class _Closed(BaseException):
    """Unwinds a thread whose call was closed; no `except Exception` of a model catches it."""


class _ThreadCall(Generic[Result]):
    """A call in a thread of its own; one of the two sides runs at a time."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self.result: Result | None = None
        self._message: Any | None = None
        self._error: BaseException | None = None
        self._closing = False
        self._go_in, self._go_out = threading.Semaphore(0), threading.Semaphore(0)
        self._outside = _TorchState()
        run = partial(copy_context().run, self._run, function)
        self._thread = threading.Thread(target=run, daemon=True)

    def _run(self, function: Callable[[], Result]) -> None:
        self._go_in.acquire()
        _CURRENT.set(self)
        try:
            self._outside.restore()
            torch.set_grad_enabled(False)
            self.result = function()
        except _Closed:
            pass
        except BaseException as error:  # It is raised again in `advance`.
            self._error = error
        self._message = None
        self._go_out.release()

    def advance(self) -> Any | None:
        if self._thread.ident is None:
            self._thread.start()
        elif not self._thread.is_alive():
            return None
        self._go_in.release()
        self._go_out.acquire()
        if self._error is not None:
            raise self._error
        return self._message

    def wait(self, message: Any) -> None:
        self._message = message
        self._go_out.release()
        self._go_in.acquire()
        if self._closing:
            raise _Closed

    def close(self) -> None:
        if self._thread.ident is not None and self._thread.is_alive():
            self._closing = True
            self._go_in.release()
            self._thread.join()
