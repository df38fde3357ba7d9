"""One option of a command line, where else than there it may be said, and groups of them."""

from __future__ import annotations

from typing import Any, Literal

from typer.models import OptionInfo


class Option(OptionInfo):
    """An option called `flags`, the first of which names its variable and its setting.

    It may be said `anywhere`, which is `ADABN_FLAG` and the settings file too, or in `settings`
    but no variable; or on the command `line` only: what loosens safety or replaces files, and what
    is different each time. `more` is what Typer knows of options.
    """

    def __init__(
        self, *flags: str, said: Literal["anywhere", "settings", "line"] = "anywhere", **more: Any
    ) -> None:
        self.key = flags[0].removeprefix("--")
        self.is_setting = said != "line"
        variable = f"ADABN_{self.key.replace('-', '_').upper()}" if said == "anywhere" else None
        super().__init__(default=..., param_decls=flags, envvar=variable, **more)


class Group:
    """Options that go together: each annotated name of a subclass is one, as in a dataclass.

    Making a dataclass takes a millisecond, and every command waits for all groups.
    """

    def __init__(self, **given: object) -> None:
        vars(self).update(given)
