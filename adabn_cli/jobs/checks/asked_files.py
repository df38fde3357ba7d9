"""Whether the files of labels that were named are there, and what is said of tables has an effect.

Looked at before a model is opened.
"""

from __future__ import annotations

from adabn_cli.data.listing import Location
from adabn_cli.data.readers.kinds import reader_of
from adabn_cli.data.truth.labels_file import require_labels_file
from adabn_cli.errors import TargetError, UsageError
from adabn_cli.jobs.scored_data import PicturesRequest


def check_files(pictures: PicturesRequest, *places: Location | None) -> None:
    """Raises TargetError for labels or a class map that are not there.

    UsageError where columns or a suffix are named and no place or file of labels has them; the
    format that was said is that of the first place.
    """
    require_labels_file(pictures.labels)
    if pictures.class_map is not None and not pictures.class_map.is_file():
        raise TargetError(
            "There is no such class map.",
            where=str(pictures.class_map),
            hint="Check the path that was given to --class-map.",
        )
    columns = pictures.columns
    asked = {
        "--path-column": columns.path,
        "--label-column": columns.label,
        "--path-suffix": columns.path_suffix,
    }
    labels = pictures.labels not in ("auto", "none")
    if labels or not any(asked.values()):
        return
    said = (pictures.kind, *([None] * len(places)))
    asked_of = [(place, kind) for place, kind in zip(places, said, strict=False) if place]
    try:
        readers = [reader_of(place, kind, columns) for place, kind in asked_of]
    except OSError:
        return  # A folder that cannot be listed: told by whoever reads it.
    for option, value in asked.items():
        of_paths = option == "--path-suffix"
        if value and not any(one.has_paths if of_paths else one.has_columns for one in readers):
            raise UsageError(
                f"{option} {value} is for tables, and there is none among the pictures.",
                hint=f"Leave out {option}, or give a CSV, TSV or Parquet file.",
            )
