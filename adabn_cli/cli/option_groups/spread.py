"""A command as Typer takes it: each group of options in its signature spread into its options."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from adabn_cli.cli.option_groups.option import Group, Option
from adabn_cli.cli.settings import Setting


class Without:
    """In `Annotated[Group, Without("name")]`: what a command has no option for."""

    def __init__(self, *names: str) -> None:
        self.names = names


def spread(function: Callable[..., int]) -> Callable[..., int]:
    """The command with an option for each annotated name of its groups."""
    parameters: list[Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in signature(function).parameters.items():
        group, left_out = _group(hints[name])
        if group is None:
            parameters.append(parameter.replace(annotation=hints[name]))
        else:
            options = [option for option in _options(group) if option.name not in left_out]
            parameters += options
            groups[name] = group, [option.name for option in options]

    def command(**given: Any) -> int:
        made = {
            name: group(**{key: given.pop(key) for key in keys})
            for name, (group, keys) in groups.items()
        }
        return function(**given, **made)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    command.__annotations__ = {option.name: option.annotation for option in parameters}
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return command


def _group(hint: Any) -> tuple[type | None, tuple[str, ...]]:
    """The group that a parameter is of, and what it is without; None for an option."""
    kind, *more = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if not (isinstance(kind, type) and issubclass(kind, Group)):
        return None, ()
    return kind, tuple(name for one in more if isinstance(one, Without) for name in one.names)


@cache
def _options(group: type) -> list[Parameter]:
    keyword = partial(Parameter, kind=Parameter.KEYWORD_ONLY)
    return [
        keyword(name, default=getattr(group, name, Parameter.empty), annotation=hint)
        for name, hint in get_type_hints(group, include_extras=True).items()
    ]


def settings_of(command: Callable[..., int]) -> list[Setting]:
    """What a settings file may hold for a command that is spread."""
    found = []
    for parameter in signature(command).parameters.values():
        kind, option = get_args(parameter.annotation)
        if isinstance(option, Option) and option.is_setting:
            repeated = any(get_origin(part) is list for part in (kind, *get_args(kind)))
            found.append(Setting(option.key, parameter.name, repeated))
    return found
