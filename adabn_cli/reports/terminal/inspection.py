"""What is in a model file, on a terminal."""

from __future__ import annotations

from collections import Counter

from rich.console import Group, RenderableType
from rich.text import Text

from adabn_cli.record import Inspection
from adabn_cli.reports.terminal.tables import facts, figures, marked, note, plain
from adabn_cli.reports.words.figures import count
from adabn_cli.text import first_few


def render(found: Inspection) -> RenderableType:
    """Format, architecture, preprocessing and classes, then every site."""
    parts: list[RenderableType] = [facts(_rows(found))]
    if found.sites:
        table = figures("site", "kind", "neurons", "eps")
        for site in found.sites:
            eps = "" if site.eps is None else f"{site.eps:g}"
            table.add_row(plain(site.name), site.kind, f"{site.channels:,}", eps)
        parts += [Text(), table]
        rules = {site.kind: site.rule for site in found.sites if site.rule}
        parts += [note(f"{kind}: {rule}", "dim") for kind, rule in rules.items()]
    if found.fixed_layers:
        parts += [Text(), Text("nothing to adapt in:")]
        parts += [
            note(f"{layer.name} ({layer.kind}): {layer.reason}") for layer in found.fixed_layers
        ]
    parts += [marked("note", text) for text in found.notes]
    return Group(*parts)


def _rows(found: Inspection) -> list[tuple[str, str]]:
    kinds = Counter(site.kind for site in found.sites)
    neurons = sum(site.channels for site in found.sites)
    adaptable = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    where = f", weights under {found.weights!r}" if found.weights else ""
    classes = found.classes or ()
    shown = ", ".join(classes[:5]) + (", …" if len(classes) > 5 else "")
    architecture = found.architecture or ("" if found.unsafe_imports else "unknown")
    return [
        ("file", found.path),
        ("format", f"{found.format}, {found.bytes:,} bytes{where}"),
        ("sha256", found.sha256 or ""),
        ("tensors", f"{found.tensors:,} with {found.parameters:,} values" if found.tensors else ""),
        ("architecture", architecture),
        ("", found.architecture_source or found.architecture_problem or ""),
        ("input", _input(found)),
        ("classes", f"{len(classes)}: {shown} ({found.classes_source})" if classes else "unknown"),
        ("sites", f"{adaptable} to adapt, {count(neurons, 'neuron')}" if kinds else "none"),
        ("never learned", first_few(found.unlearned_sites)),
        *(("broken", phrase) for phrase in found.broken_entries),
        *(("runs code", name) for name in found.unsafe_imports),
    ]


def _input(found: Inspection) -> str:
    p, channels, size = found.preprocessing, found.input_channels, found.input_size
    if p is None:
        known = f"{channels} channels; " if channels else ""
        if size:
            return f"{known}{size[0]}x{size[1]} px; the rest unknown: give --mean --std"
        return f"{known}preprocessing unknown: give --img-size --mean --std"
    return (
        f"{p.size[0]}x{p.size[1]} px, mean {','.join(f'{x:g}' for x in p.mean)}, "
        f"std {','.join(f'{x:g}' for x in p.std)}, crop {p.crop_pct:.3g}, {p.interpolation} "
        f"({p.source})"
    )
