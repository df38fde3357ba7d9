"""What a pickle would import, call and build, found by reading its opcodes.

An abstract machine with the stack of the real one: strings, numbers, tuples and lists are kept,
everything made by a call is a token. Nothing is imported and nothing is called. Whether what it
finds may be done is decided elsewhere.
"""

from __future__ import annotations

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass, field
from typing import IO, Any

from adabn_cli.errors import ModelError

#: The opcodes that torch's restricted unpickler knows.
_OPCODES = """
    APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE
    BUILD EMPTY_DICT EMPTY_LIST EMPTY_SET EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT
    MARK NEWFALSE NEWOBJ NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS SHORT_BINSTRING STOP
    TUPLE TUPLE1 TUPLE2 TUPLE3
"""
_KNOWN = frozenset(_OPCODES.split())

#: What reading or following opcodes that are not in order raises; lengths can be absurd.
_DAMAGE = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Named:
    """A global that the pickle names, "module.attribute"."""

    name: str


@dataclass(eq=False)
class Made:
    """A value that calling `by` would give; `builds` counts the states put into it."""

    by: str
    args: Any = None
    builds: int = 0


@dataclass(frozen=True, kw_only=True)
class Act:
    """`verb` is "call", "new", "build" or "refer"; `name` is the global, "" if it is none."""

    verb: str
    name: str
    args: Any
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredStorage:
    """A storage that the pickle refers to: `numel` elements of the type `kind`."""

    kind: str
    key: str
    numel: int
    view: bool


@dataclass(kw_only=True)
class PickleAudit:
    """Everything that one pickle asks for, in its order."""

    imports: dict[str, None] = field(default_factory=dict)
    acts: list[Act] = field(default_factory=list)
    storages: list[StoredStorage] = field(default_factory=list)
    unknown_opcodes: set[str] = field(default_factory=set)
    result: Any = None


def audit_pickle(file: IO[bytes], where: str) -> PickleAudit:
    """What the pickle at the file's position would do; leaves the file behind its last byte.

    Raises ModelError if the bytes are no pickle.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode, argument)
    except _DAMAGE as error:
        raise ModelError(
            f"The checkpoint's pickle is damaged: {str(error) or type(error).__name__}.",
            where=where,
            hint="Copy or download the file again.",
        ) from error
    return machine.audit


class _Machine:
    def __init__(self) -> None:
        self.audit = PickleAudit()
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        name = opcode.name
        if name not in _KNOWN:
            self.audit.unknown_opcodes.add(name)
        handler = getattr(self, f"_{name.lower()}", None)
        if handler is not None:
            handler(argument)
        elif name.startswith("EMPTY_") or name in ("NEWTRUE", "NEWFALSE", "NONE"):
            self.stack.append(_FRESH[name]())
        elif name.startswith("TUPLE"):
            self._pack(int(name[5:]))
        elif name in ("PROTO", "FRAME"):
            return
        elif "GET" in name:
            self.stack.append(self.memo[int(argument)])
        elif "PUT" in name:
            self.memo[int(argument)] = self.stack[-1]
        else:
            self._generic(opcode, argument)

    def _generic(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Pops and pushes as many values as the opcode's documentation says."""
        for value in reversed(opcode.stack_before):
            if value is pickletools.stackslice:
                self._to_mark()
            elif value is not pickletools.markobject:
                self.stack.pop()
        pushed = len(opcode.stack_after)
        literal = pushed == 1 and not opcode.stack_before
        self.stack.extend([argument if literal else Made("")] * pushed)

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def _pack(self, size: int) -> None:
        items = tuple(self.stack[-size:])
        if len(items) < size:
            raise ValueError("a tuple reaches below the stack")
        del self.stack[-size:]
        self.stack.append(items)

    def _mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _tuple(self, _: Any) -> None:
        items = tuple(self._to_mark())
        self.stack.append(items)

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _setitem(self, _: Any) -> None:
        del self.stack[-2:]

    def _setitems(self, _: Any) -> None:
        self._to_mark()

    def _memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._import(module, name)

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._import(str(module), str(name))

    def _import(self, module: str, name: str) -> None:
        # The names of Python 2, as the real unpickler translates them.
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[(module, name)]
        else:
            module = IMPORT_MAPPING.get(module, module)
        full = f"{module}.{name}"
        self.audit.imports[full] = None
        self.stack.append(Named(full))

    def _inst(self, argument: str) -> None:
        args = tuple(self._to_mark())
        self._global(argument)
        self._make("call", self.stack.pop(), args)

    def _obj(self, _: Any) -> None:
        callee, *args = self._to_mark()
        self._make("call", callee, tuple(args))

    def _reduce(self, _: Any) -> None:
        args = self.stack.pop()
        self._make("call", self.stack.pop(), args)

    def _newobj(self, _: Any) -> None:
        args = self.stack.pop()
        self._make("new", self.stack.pop(), args)

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()
        self._newobj(None)

    def _make(self, verb: str, callee: Any, args: Any) -> None:
        name = callee.name if isinstance(callee, Named) else ""
        self.audit.acts.append(Act(verb=verb, name=name, args=args))
        self.stack.append(Made(name, args))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        name = target.by if isinstance(target, Made) else ""
        again = isinstance(target, Made) and target.builds > 0
        self.audit.acts.append(Act(verb="build", name=name, args=state, again=again))
        if isinstance(target, Made):
            target.builds += 1

    def _binpersid(self, _: Any) -> None:
        reference = self.stack.pop()
        if isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage":
            kind, key, _location, numel = reference[1:5]
            if not (isinstance(kind, Named) and isinstance(key, str) and isinstance(numel, int)):
                raise ValueError("a storage is described by values of the wrong type")
            view = len(reference) > 5 and reference[5] is not None
            self.audit.storages.append(
                StoredStorage(kind=kind.name, key=key, numel=numel, view=view)
            )
        else:
            what = reference[0] if isinstance(reference, tuple) and reference else reference
            self.audit.acts.append(Act(verb="refer", name="", args=what))
        self.stack.append(Made("storage"))

    def _stop(self, _: Any) -> None:
        self.audit.result = self.stack.pop()


_FRESH: dict[str, Any] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": lambda: Made("dict"),
    "EMPTY_SET": lambda: Made("set"),
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
}
