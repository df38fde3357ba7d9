"""`adabn demo`: the main job on the sample data that ships with the package."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.cli import options
from adabn_cli.cli.consoles import tell
from adabn_cli.cli.progress import shown_progress
from adabn_cli.cli.run_report import show


def demo(
    json_: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> int:
    """Adapt a net trained on MNIST digits to UCI's optical digits; both come with adabn."""
    from adabn_cli.checkpoints.opening import ModelRequest
    from adabn_cli.workflows.adapt import adapt as adapt_model
    from adabn_cli.workflows.preparation import AdaptRequest

    data = sample_data()
    model, target = data / "digits_bn.pt", data / "target"
    if not (quiet or json_):
        tell(f"$ adabn adapt {model} --target {target} --verify")
    with shown_progress(quiet=quiet or json_) as progress:
        adapted = adapt_model(AdaptRequest(ModelRequest(model), target, verify=True), progress)
    show(adapted.record, json=json_, quiet=quiet)
    return 0


def sample_data() -> Path:
    """The sample data: inside an installed package, beside it in a checkout."""
    import adabn_cli

    package = Path(adabn_cli.__file__).parent
    inside = package / "sample_data"
    return inside if inside.is_dir() else package.parent / "sample_data"
