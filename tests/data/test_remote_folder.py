"""Remote folders through fsspec: in memory, and from a server on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from adabn_cli.data.open import open_target
from adabn_cli.data.target import Target, TargetRequest
from adabn_cli.errors import TargetError
from adabn_cli.preprocessing import Preprocessing

fsspec = pytest.importorskip("fsspec")
NAMES = ("a/0.png", "a/1.png", "b/c/2.png")


def opened(location: object, **options: object) -> Target:
    return open_target(TargetRequest(location, Preprocessing((8, 8), (0.4,), (0.3,)), **options))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level, name in enumerate(NAMES):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), level).save(file)
    (tmp_path / "photos" / "notes.txt").touch()
    return tmp_path / "photos"


@pytest.fixture
def in_memory(folder: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    for file in folder.rglob("*.*"):
        system.pipe(f"/bucket/photos/{file.relative_to(folder)}", file.read_bytes())
    system.pipe("/bucket/photos/.hidden/x.png", b"")
    yield "memory://bucket/photos"
    system.rm("/bucket", recursive=True)


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(folder: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_bucket_gives_what_the_folder_gives(folder, in_memory):
    target = opened(in_memory)
    assert (target.kind, target.pictures, target.other_files) == ("remote folder", NAMES, 1)
    assert target.fingerprint == opened(folder).fingerprint
    assert (
        opened(in_memory + "/", max_images=2).fingerprint
        == opened(folder, max_images=2).fingerprint
    )


def test_a_server_gives_what_the_folder_gives(folder, served):
    target = opened(served)
    assert (target.kind, target.pictures) == ("remote folder", NAMES)
    assert target.fingerprint == opened(folder).fingerprint


def test_a_picture_that_is_gone_or_broken_is_named(in_memory):
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/photos/a/0.png", b"")
    (lost,) = opened(in_memory, max_bad=1).skipped
    assert (lost.path, lost.reason) == ("a/0.png", "empty file")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nowhere", "cannot be listed: .*nowhere"),
        ("nosuch://x/y", "cannot be listed: Protocol not known: nosuch"),
        ("http://127.0.0.1:9/x/", "cannot be listed"),
    ],
)
def test_a_url_that_cannot_be_used_says_why(url, message):
    with pytest.raises(TargetError, match=message) as caught:
        opened(url)
    assert caught.value.where == url
    assert caught.value.hint


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(TargetError, match="needs the package fsspec") as caught:
        opened("s3://bucket/photos")
    assert caught.value.hint == 'pip install "adabn[remote]"'
