"""What a model's outputs are for, and what they are held against: a head, with masks or numbers.

Class scores take none of it: they are read by `Scores`, with labels of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.data.target import Target
from adabn_cli.data.truth.masks import ReadMasks, read_masks
from adabn_cli.data.truth.values import ValueTable, read_value_table
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.measures.detection import Detections
from adabn_cli.measures.heads import Head, Task
from adabn_cli.measures.multi_label import LabelScores
from adabn_cli.measures.regression import Values
from adabn_cli.measures.segmentation import Maps, Masks
from adabn_cli.model import IGNORED, Boxes, Model, Outputs
from adabn_cli.text import first_few, one_line

#: What `--task` takes; auto goes by the outputs.
AskedTask = Literal[
    "auto", "classification", "segmentation", "multi-label", "regression", "detection"
]


@dataclass(frozen=True, kw_only=True)
class TruthRequest:
    """What outputs of a task are held against; see the options of those names."""

    task: Task
    labels: str
    masks: Path | None
    label_offset: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """A head, where its truth comes from (None without any), and how many images have some.

    `names` are those of classes, labels or numbers by index, where they are known. `masks` are
    there where nobody said from where their classes count.
    """

    head: Head
    source: str | None = None
    images: int = 0
    names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    masks: ReadMasks | None = None
    files: tuple[Path, ...] = ()


def task_of(outputs: Outputs, asked: str) -> Task | None:
    """What the outputs are for; None for class scores. Raises UsageError for no such task."""
    if asked not in get_args(AskedTask):
        raise UsageError(
            f"--task {asked} is unknown.", hint=f"It takes {', '.join(get_args(AskedTask))}."
        )
    if asked == "classification":
        return None
    if asked != "auto":
        task: Task = asked  # type: ignore[assignment]
        return task
    if isinstance(outputs, Boxes):
        return "detection"
    maps = isinstance(outputs, Tensor) and outputs.dim() == 4
    return "segmentation" if maps else None


def empty_head(task: Task) -> Head:
    """A head without truth."""
    heads: dict[Task, type[Head]] = {
        "segmentation": Maps,
        "multi-label": LabelScores,
        "regression": Values,
        "detection": Detections,
    }
    return heads[task]()


def read_truth(asked: TruthRequest, target: Target, model: Model, outputs: Outputs) -> Truth:
    """The head for a target's pictures, with masks or a table of numbers where they were given.

    `outputs` are those of one picture. Raises TargetError where the truth does not fit the pictures
    or the outputs, ModelError where the outputs are not of the task's kind.
    """
    task, labels, masks = asked.task, asked.labels, asked.masks
    head = empty_head(task)
    head(0, outputs)
    if masks is not None and task != "segmentation":
        raise UsageError(
            f"--masks are for maps; this is {task}.", hint="Leave out --masks, or --task."
        )
    if labels not in ("auto", "none") and task in ("segmentation", "detection"):
        raise UsageError(
            f"--labels FILE is for classes and numbers; this is {task}.",
            hint="Leave out --labels, or give --masks DIR to a model of maps.",
        )
    if task == "segmentation" and masks is not None:
        return _masked(target, model, outputs, masks, asked.label_offset)
    if task in ("multi-label", "regression") and labels not in ("auto", "none"):
        table = _table(task, target, labels)
        return _with_table(task, table, model, outputs, Path(labels))
    hint = {
        "segmentation": "--masks DIR holds class indices by pixel",
        "multi-label": "--labels FILE holds path and a column for each label, 0 or 1",
        "regression": "--labels FILE holds path and a column for each number",
        "detection": "annotated boxes are not scored; adabn says what is seen before and after",
    }
    names = tuple(model.classes) if model.classes else None
    return Truth(head=head.fresh(), names=names, notes=(f"Unlabeled: {hint[task]}.",))


def _masked(
    target: Target, model: Model, outputs: Outputs, folder: Path, offset: int | None
) -> Truth:
    request = target.request
    found = read_masks(
        *(folder, target.pictures, target.sizes, request.preprocessing, request.keeping),
        max_pixels=request.max_pixels,
    )
    classes = outputs.shape[1] if isinstance(outputs, Tensor) else 0
    values, first = found.values - {IGNORED}, offset or 0
    # 255 for what is to be found, 0 for all else: the usual mask of two classes.
    foreground = IGNORED in found.values and values <= {0} and max(classes, 2) == 2 and not first
    if values and max(values) - first >= max(classes, 2):
        from_one = offset is None and max(values) == max(classes, 2)
        raise TargetError(
            f"The masks hold class {max(values)}, and the model has {max(classes, 2)} classes.",
            where=str(folder),
            hint="Give --label-offset 1 if the first class is 1: what is below counts for nothing."
            if from_one
            else f"Class indices start at {first}; 255 is unknown. Write the masks with the "
            "model's.",
        )
    notes = [*found.notes]
    if below := sorted(value for value in values if value < first):
        notes.append(f"the masks hold {first_few(map(str, below))}, below the first class, "
                     f"{first}: this counts for nothing")  # fmt: skip
    if foreground:
        notes.append("the masks hold 0 and 255 alone: 255 is taken for class 1")
    names = tuple(model.classes) if model.classes and len(model.classes) == classes else None
    return Truth(
        head=Maps(_masks_by_batch(found, request.batch_size, first, foreground=foreground)),
        source=f"masks from {folder.name}" + (f", counted from {first}" if first else ""),
        images=sum(found.found_N),
        names=names,
        notes=tuple(f"{note[0].upper()}{note[1:]}." for note in notes),
        masks=found if offset is None and not foreground else None,
        files=found.files,
    )


def _masks_by_batch(found: ReadMasks, batch_size: int, first: int, *, foreground: bool) -> Masks:
    # The class of every value that a pixel of a mask has.
    class_V = torch.arange(256) - first
    class_V[(class_V < 0) | (torch.arange(256) == IGNORED)] = IGNORED

    def masks(index: int) -> Tensor:
        rows = slice(index * batch_size, (index + 1) * batch_size)
        masks_nHW = found.pixels_NHWC[rows][..., 0]
        if not foreground:
            return class_V[masks_nHW.long()].to(torch.uint8) if first else masks_nHW
        known_n = torch.tensor(found.found_N[rows])
        return masks_nHW.clamp(max=1).where(known_n[:, None, None], masks_nHW)

    return masks


def _table(task: Task, target: Target, labels: str) -> ValueTable:
    allowed = (0.0, 1.0) if task == "multi-label" else ()
    return read_value_table(
        Path(labels), target.pictures, allowed=allowed, columns=target.request.columns
    )


def _with_table(task: Task, table: ValueTable, model: Model, outputs: Outputs, file: Path) -> Truth:
    width = outputs[0].numel() if isinstance(outputs, Tensor) else 0
    values_ND, names = table.values_ND, table.names
    if model.classes and set(names) <= set(model.classes) and len(model.classes) == width:
        values_ND, names = _in_order(table, model.classes), tuple(model.classes)
    elif model.classes and task == "multi-label":
        strange = first_few(name for name in names if name not in set(model.classes))
        raise TargetError(
            f"These columns are no labels of the model: {strange}.",
            where=str(file),
            hint=f"The model has {first_few(model.classes)}.",
        )
    elif len(names) != width:
        raise TargetError(
            f"The file has {len(names)} columns beside path, the model {width} outputs.",
            where=str(file),
            hint="Give a column for each output, in their order; empty where unknown.",
        )
    head = LabelScores(values_ND) if task == "multi-label" else Values(values_ND)
    notes = tuple(f"{note}." for note in table.notes)
    return Truth(
        head=head,
        source=f"labels file {one_line(file.name)}",
        images=table.known,
        names=names,
        notes=notes,
    )


def _in_order(table: ValueTable, classes: Sequence[str]) -> NDArray[np.float64]:
    """A column for each of the model's classes, NaN for one that the table has not."""
    places = {name: place for place, name in enumerate(table.names)}
    unknown_N = np.full(len(table.values_ND), np.nan)
    columns = [
        table.values_ND[:, places[name]] if name in places else unknown_N for name in classes
    ]
    return np.stack(columns, axis=1)


def live_truth(task: Task, outputs: Outputs, labels: Sequence[Tensor] | None) -> Truth:
    """The head for batches that brought their truth along: masks [n, H, W], or numbers [n, D].

    Raises UsageError where it does not fit, ModelError where the outputs are not of this kind.
    """
    head = empty_head(task)
    head(0, outputs)
    if labels is None or task == "detection":
        return Truth(head=head.fresh())
    if task == "segmentation":
        found = sum(int((mask != IGNORED).flatten(1).any(1).sum()) for mask in labels)
        held = Maps(lambda index: labels[index])
        return Truth(head=held, source="given with the batches", images=found)
    values = [part.reshape(len(part), -1).double().cpu().numpy() for part in labels]
    values_ND, width = np.concatenate(values), outputs[0].numel()  # type: ignore[index]
    if values_ND.shape[1] != width:
        raise UsageError(
            f"Labels of {values_ND.shape[1]} columns for {width} outputs.",
            hint="Give one for each output; NaN where unknown.",
        )
    if task == "multi-label" and not np.isin(values_ND[~np.isnan(values_ND)], (0, 1)).all():
        raise UsageError(
            "Labels of several are 0 or 1 for each output.", hint="NaN is for what is unknown."
        )
    known = int((~np.isnan(values_ND)).any(1).sum())
    held_values = LabelScores(values_ND) if task == "multi-label" else Values(values_ND)
    return Truth(head=held_values, source="given with the batches", images=known)
