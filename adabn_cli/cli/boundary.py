"""The one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from adabn_cli.cli.consoles import print_error, speak_any_encoding, write_json
from adabn_cli.errors import AdabnError, StoppedError, UsageError
from adabn_cli.ranks import speaks

INTERRUPTED, TERMINATED = 130, 143


def run(arguments: Sequence[str]) -> int:
    """Runs a command line; returns its exit code, whatever happens inside."""
    if not sys.stdout.isatty():
        # Typer's own --help writes colours into a pipe under GITHUB_ACTIONS and FORCE_COLOR.
        os.environ["_TYPER_FORCE_DISABLE_TERMINAL"] = "1"
    speak_any_encoding()
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _command(arguments)
        return code if code != INTERRUPTED else _tell(arguments, _interrupted(), code)
    except _Terminated:
        return _tell(arguments, _interrupted(), TERMINATED)
    except KeyboardInterrupt:
        return _tell(arguments, _interrupted(), INTERRUPTED)
    except SystemExit as left:
        # Rich and Typer exit with 1 where the reader of --help has left (`adabn --help | head`).
        return 0 if isinstance(left.__context__, BrokenPipeError) else int(left.code or 0)
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        told = _as_told(error)
        if isinstance(told, StoppedError):
            told.hint = _to_go_on(arguments, told)
        return _tell(arguments, told, told.exit_code)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _command(arguments: Sequence[str]) -> int:
    from adabn_cli.cli.app import app, settings_for
    from adabn_cli.cli.help_screen import import_renderer

    import_renderer(arguments)
    code = app(
        args=list(arguments) or ["--help"],
        prog_name="adabn",
        standalone_mode=False,
        default_map=settings_for(arguments),
    )
    return code if isinstance(code, int) else 0


class _Terminated(BaseException):
    """SIGTERM arrived: unwind, so that nothing half-written stays."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def _interrupted() -> AdabnError:
    return AdabnError(
        "Interrupted before the end.", hint="Give the same command again to start over."
    )


def _to_go_on(arguments: Sequence[str], stopped: StoppedError) -> str:
    given = list(arguments)
    if not any(argument.split("=")[0] == "--resume" for argument in given):
        given += ["--resume", str(stopped.folder)]
    return f"Go on with: {shlex.join(['adabn', *given])}"


def _as_told(error: Exception) -> AdabnError:
    """The error as one of ours: usage errors of Typer's by their shape, anything else is a bug."""
    if isinstance(error, AdabnError):
        return error
    message = getattr(error, "format_message", None)
    if message is not None and getattr(error, "exit_code", None) == UsageError.exit_code:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "adabn"
        told = message().rstrip(".") + "."
        return UsageError(told, hint=f"{command} --help lists what there is.")
    return AdabnError(
        f"A bug in adabn: {type(error).__name__}: {error}".splitlines()[0],
        hint="Give the command again with --debug and report what it prints.",
    )


def _tell(arguments: Sequence[str], error: AdabnError, code: int) -> int:
    if not speaks():  # Another process of the same job tells it.
        return code
    if "--json" in arguments:
        about = {"what": error.what, "where": error.where, "hint": error.hint, "exit_code": code}
        write_json({"error": about})
    print_error(error)
    return code
