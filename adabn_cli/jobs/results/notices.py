"""What is odd about a target, so that the figures say less than they seem to: four things.

A person is told what it means and what to do. Knows no gate and no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adabn_cli.measures.counts import effective_classes
from adabn_cli.measures.near_duplicates import distinct_scenes
from adabn_cli.record import NoticePart, SampleSizePart, ScoresPart
from adabn_cli.text import one_line

#: Fewer pictures than this are few. Three nets on three targets of digits, subsets drawn at random:
#: 8 pictures cost up to 4.2 points of the adapted accuracy, 16 up to 2.2, 32 at most 0.7.
FEW_PICTURES = 32
#: How many pictures are held against each other; they are spread over all of the target.
COMPARED_PICTURES = 64

# Nine of ten: of ordinary targets the most frequent class had at most 0.24, or 0.60 where the
# source model failed on it.
_SINGLE_CLASS = 0.9
# One picture is always of one class, and five of them often enough.
_CLASS_IMAGES = 8
# Ordinary pictures show 23 scenes or more in 64 of them, one scene repeated under 2; digits of one
# class between 2 and 60.
_FEW_SCENES = 4.0
_PICTURES_A_SCENE = 4
# As the gate `collapse`: less than half of the effective number of classes is left.
_CLASSES_LEFT = 0.5
_NAME_LENGTH = 60


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What notices go by.

    `sample_nCHW` are some of the pictures, spread over all of them, as the model takes them;
    `before` and `after` have the same images, `images` of them; names are by class index. Maps and
    several labels are not `one_class_an_image`: most pixels may well be background.
    """

    images: int
    before: ScoresPart
    after: ScoresPart
    labels_N: NDArray[np.int64] | None
    names: Sequence[str] | None
    sample_size: SampleSizePart | None
    sample_nCHW: Tensor | None
    one_class_an_image: bool = True

    @property
    def label_histogram(self) -> list[int]:
        """Labelled images by class; empty where there are none."""
        if self.labels_N is None:
            return []
        counts: list[int] = np.bincount(self.labels_N[self.labels_N >= 0]).tolist()
        return counts

    def name(self, index: int) -> str:
        """The class as it can stand in a sentence, within quotes."""
        name = one_line(self.names[index]) if self.names else str(index)
        return name if len(name) <= _NAME_LENGTH else f"{name[:_NAME_LENGTH]}…"


def notice_parts(seen: Seen) -> tuple[NoticePart, ...]:
    """Everything that is odd about the target; nothing about an ordinary one."""
    return tuple(_notices(seen))


def _notices(seen: Seen) -> Iterator[NoticePart]:
    for kind, find in (
        ("single class", _single_class),
        ("few pictures", _few_pictures),
        ("near-duplicates", _near_duplicates),
        ("collapse", _collapse),
    ):
        sentence = find(seen)
        if sentence is not None:
            yield NoticePart.model_validate({"kind": kind, "sentence": sentence})


def _single_class(seen: Seen) -> str | None:
    """By labels where there are any, else by what either model says, the clearer one.

    An adapted model that collapsed says one class of any target.
    """
    advice = (
        "Its statistics are those of the class as much as of the domain, and plain AdaBN takes the "
        "class for a shift. Add pictures of other classes, or adapt with --method auto and a "
        "source profile, which allows for another mix of classes."
    )
    if not seen.one_class_an_image:
        return None
    labels = seen.label_histogram
    if sum(labels) >= _CLASS_IMAGES:
        index, share = _most_frequent(labels)
        if share < _SINGLE_CLASS:
            return None
        return (
            f'The target holds one class: "{seen.name(index)}" is the label of {share:.0%} of '
            f"{sum(labels):,} labelled pictures. {advice}"
        )
    sides = [("source", seen.before)]
    if _collapse(seen) is None:
        sides.append(("adapted", seen.after))
    sides = [(who, part) for who, part in sides if sum(part.predicted_histogram) >= _CLASS_IMAGES]
    if not sides:
        return None
    found = [(who, *_most_frequent(part.predicted_histogram)) for who, part in sides]
    who, index, share = max(found, key=lambda one: one[2])
    if share < _SINGLE_CLASS:
        return None
    return (
        f'The target may hold one class: The {who} model says "{seen.name(index)}" of {share:.0%} '
        f"of the pictures, or else it fails on them. If it is right: {advice}"
    )


def _most_frequent(histogram: Sequence[int]) -> tuple[int, float]:
    index = int(np.argmax(histogram))
    return index, histogram[index] / sum(histogram)


def _few_pictures(seen: Seen) -> str | None:
    if seen.images >= FEW_PICTURES:
        return None
    size, known = seen.sample_size, ""
    if size is not None and _CLASS_IMAGES <= seen.images >= size.enough:
        return None  # Maps tell thousands of positions in each: few pictures can be enough.
    wanted = FEW_PICTURES if size is None else max(size.enough, seen.images + 1)
    count = "1 picture is" if seen.images == 1 else f"{seen.images} pictures are"
    if size is not None and seen.images in size.images:
        error = size.errors[size.images.index(seen.images)]
        known = f": at {one_line(size.site)} a mean is uncertain by {error:.2g} standard deviations"
    return (
        f"{count} few to take statistics from{known}. Give {wanted:,} or more, or keep to "
        "the source where they say too little, with --prior auto or a source profile."
    )


def _near_duplicates(seen: Seen) -> str | None:
    if seen.sample_nCHW is None:
        return None
    compared = len(seen.sample_nCHW)
    scenes = distinct_scenes(seen.sample_nCHW)
    if scenes > min(_FEW_SCENES, compared / _PICTURES_A_SCENE):
        return None
    shown = "one scene" if round(scenes) == 1 else f"{round(scenes)} scenes"
    return (
        f"The pictures repeat one another: {compared} of them are as alike as if they showed "
        f"{shown}. Repeats tell little that is new: the statistics are those of what is repeated, "
        "and intervals, which take pictures for independent, are too narrow. Add pictures of other "
        "scenes."
    )


def _collapse(seen: Seen) -> str | None:
    before, after = seen.before.effective_classes, seen.after.effective_classes
    if before is None or after is None or after >= _CLASSES_LEFT * before:
        return None
    labels = seen.label_histogram
    if labels and after >= effective_classes(labels):
        return None  # The labels are no more diverse: what was given up were errors.
    return (
        f"The predictions collapse: They are worth {after:.1f} classes after adapting, "
        f"{before:.1f} before (equally frequent ones). Keep the source model unless labels say "
        "otherwise. See that a source profile, if one was used, shows all classes; --prior auto "
        "keeps closer to the source."
    )
