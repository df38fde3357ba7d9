"""What a run is compared with in CI."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from adabn_cli.cli.option_groups.option import Group, Option

if TYPE_CHECKING:
    from adabn_cli.gates.gates import GateRequest

_option = partial(Option, rich_help_panel="Gates")


class GateOptions(Group):
    """Gates, and the run that they compare with."""

    fail_on: Annotated[
        list[str] | None,
        _option(
            "--fail-on",
            said="settings",
            metavar="GATE",
            help="Exit 1 if this holds, 4 if it cannot be told; may be repeated: "
            "accuracy_drop>0.5pp, accuracy_after<0.80, class_drop>5pp, kl_after_p95>2, "
            "residual>1e-3, skipped_images>1%, collapse, verdict==harm, "
            "accuracy_after.change<-0.5pp.",
        ),
    ] = None
    warn_on: Annotated[
        list[str] | None,
        _option(
            "--warn-on",
            said="settings",
            metavar="GATE",
            help="The same, shown as a warning that changes no exit code.",
        ),
    ] = None
    confidence: Annotated[
        float | None,
        _option(
            "--confidence",
            said="settings",
            metavar="SHARE",
            help="Fail only if the interval of this confidence, e.g. 0.95, excludes the limit.",
        ),
    ] = None
    allow_inconclusive: Annotated[
        bool,
        _option(
            "--allow-inconclusive",
            said="settings",
            help="Exit 0 in spite of gates that cannot be told.",
        ),
    ] = False
    allow_close_verdict: Annotated[
        bool,
        _option(
            "--allow-close-verdict",
            said="settings",
            help="Let verdict gates pass if the verdict was evaluated and is too close to tell; "
            "without labels and without a profile it still cannot be told.",
        ),
    ] = False
    baseline: Annotated[
        str | None,
        _option(
            "--baseline",
            said="settings",
            metavar="RUN",
            help="Say what changed since this run: its folder, its run.json, or one in git as "
            "REVISION:PATH. Exit 4 without it.",
        ),
    ] = None
    allow_different: Annotated[
        bool,
        _option(
            "--allow-different",
            said="line",
            help="Compare with a baseline of other pictures, classes or preprocessing.",
        ),
    ] = False

    def request(self) -> GateRequest:
        """The gates to judge by."""
        from adabn_cli.gates.gates import GateRequest

        return GateRequest(
            fail_on=tuple(self.fail_on or ()),
            warn_on=tuple(self.warn_on or ()),
            confidence=self.confidence,
            baseline=self.baseline,
            allow_different=self.allow_different,
            allow_close_verdict=self.allow_close_verdict,
        )
