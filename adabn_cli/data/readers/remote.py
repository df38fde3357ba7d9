"""A folder elsewhere, `s3://bucket/photos` or `https://host/photos/`. Needs fsspec.

It is listed once, and each picture is fetched when it is read; nothing is kept on disk.
"""

from __future__ import annotations

import io
import posixpath
from collections import Counter
from functools import partial
from typing import Any, BinaryIO

from adabn_cli.data.extras import required
from adabn_cli.data.folder_files import is_ignored
from adabn_cli.data.listing import Listing, Location, Picture
from adabn_cli.data.picture_formats import picture_suffixes
from adabn_cli.data.readers.reader import Reader
from adabn_cli.data.tables.columns import Columns
from adabn_cli.errors import TargetError
from adabn_cli.text import one_line, valid_text


def read(location: Location, _: Columns) -> Listing:
    """The pictures below a URL, by the path from there.

    Raises TargetError where the folder cannot be listed, or the package for its kind is not there.
    """
    url = str(location)
    fsspec = required("fsspec", "remote", "A remote folder", url)
    try:
        system, root = fsspec.core.url_to_fs(url)
        # Not `find`, which leaves out what cannot be listed without a word.
        walk = system.walk(root, detail=True, on_error="raise")
        paths = [file["name"] for _, _, files in walk for file in files.values()]
    except ImportError as error:
        raise TargetError(
            f"This kind of URL needs another package: {one_line(str(error))}.",
            where=url,
            hint='pip install "adabn[remote]"',
        ) from error
    except Exception as error:  # Each kind of storage has errors of its own.
        raise TargetError(
            f"The folder cannot be listed: {one_line(str(error)) or type(error).__name__}.",
            where=url,
            hint="Check the URL, the network and your credentials for it.",
        ) from error
    pictures, others, prefix = [], Counter[str](), root.rstrip("/") + "/"
    for path in paths:
        name = valid_text(str(path).removeprefix(prefix))
        if any(map(is_ignored, name.split("/"))):
            continue
        suffix = posixpath.splitext(name)[1].lower()
        if suffix in picture_suffixes():
            pictures.append(Picture(name, partial(_fetch, system, path)))
        else:
            others[suffix] += 1
    return Listing(kind="remote folder", pictures=pictures, other_suffixes=others)


def _fetch(system: Any, path: str) -> BinaryIO:
    return io.BytesIO(system.cat_file(path))


READER = Reader(name="remote", recognizes=lambda location, _: "://" in str(location), read=read)
