"""A command that runs in several processes at once, started by `torchrun`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from adabn_cli.ranks import several

if TYPE_CHECKING:
    from adabn_cli.jobs.adapt.request import AdaptRequest


@contextmanager
def among_ranks(request: AdaptRequest) -> Iterator[AdaptRequest]:
    """The request for this process's part; where it fails inside, the others are told and end."""
    if not several():
        yield request
        return
    from adabn_cli.process_group import ProcessGroup, own_device

    device = own_device(request.model.device)
    group = ProcessGroup(device)
    try:
        yield replace(
            request,
            model=replace(request.model, device=device),
            pictures=replace(request.pictures, ranks=group),
        )
    except Exception as error:
        group.fail(error)
        raise
    finally:
        group.close()
