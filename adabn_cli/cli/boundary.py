"""The one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from adabn_cli.cli.consoles import print_error
from adabn_cli.errors import AdabnError, UsageError

BUG, INTERRUPTED, TERMINATED = 70, 130, 143


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; returns its exit code, whatever happens inside."""
    if not sys.stdout.isatty():
        # Typer's own --help writes colours into a pipe under GITHUB_ACTIONS and FORCE_COLOR.
        os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
    from adabn_cli.cli.app import app, settings_for

    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(
            args=list(arguments),
            prog_name="adabn",
            standalone_mode=False,
            default_map=settings_for(arguments),
        )
        if code == INTERRUPTED:
            return _tell(arguments, _interrupted(), INTERRUPTED)
        return code if isinstance(code, int) else 0
    except _Terminated:
        return _tell(arguments, _interrupted(), TERMINATED)
    except KeyboardInterrupt:
        return _tell(arguments, _interrupted(), INTERRUPTED)
    except BrokenPipeError:
        # The reader has left (`adabn report | head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        told = _as_told(error)
        code = told.exit_code if told.exit_code != AdabnError.exit_code else BUG
        return _tell(arguments, told, code)
    finally:
        signal.signal(signal.SIGTERM, previous)


class _Terminated(BaseException):
    """SIGTERM arrived: unwind, so that nothing half-written stays."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _interrupted() -> AdabnError:
    return AdabnError(
        "Interrupted; nothing was written.", hint="Give the same command again to start over."
    )


def _as_told(error: Exception) -> AdabnError:
    """The error as one of ours: usage errors of Typer's by their shape, anything else is a bug."""
    if isinstance(error, AdabnError):
        return error
    message = getattr(error, "format_message", None)
    if message is not None and getattr(error, "exit_code", None) == UsageError.exit_code:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "adabn"
        return UsageError(message(), hint=f"{command} --help lists what there is.")
    return AdabnError(
        f"A bug in adabn: {type(error).__name__}: {error}".splitlines()[0],
        hint="Give the command again with --debug and report what it prints.",
    )


def _tell(arguments: Sequence[str], error: AdabnError, code: int) -> int:
    if "--json" in arguments:
        about = {"what": error.what, "where": error.where, "hint": error.hint, "exit_code": code}
        print(json.dumps({"error": about}, indent=2))
    print_error(error)
    return code
