"""`adabn demo`: the main job on the sample data that ships with the package."""

from __future__ import annotations

from pathlib import Path

from adabn_cli.cli.consoles import tell
from adabn_cli.cli.option_groups.output import OutputOptions
from adabn_cli.cli.progress import shown_progress
from adabn_cli.cli.shown_runs import show


def demo(*, tells: OutputOptions) -> int:
    """Adapt a net trained on MNIST digits to UCI's optical digits; both come with adabn."""
    from adabn_cli.jobs.adapt.adabn import adapt as adapt_model
    from adabn_cli.jobs.adapt.request import AdaptRequest
    from adabn_cli.models.open import ModelRequest

    data = sample_data()
    model, target = data / "digits_bn.pt", data / "target"
    if not tells.little:
        tell(f"$ adabn adapt {model} --target {target} --verify")
    with shown_progress(quiet=tells.little) as progress:
        request = AdaptRequest(model=ModelRequest(model), target=target, verify=True)
        run = adapt_model(request, progress)
    show(run.record, json=tells.json, quiet=tells.quiet)
    return 0


def sample_data() -> Path:
    """The sample data: inside an installed package, next to it in a checkout."""
    import adabn_cli

    package = Path(adabn_cli.__file__).parent
    inside = package / "sample_data"
    return inside if inside.is_dir() else package.parent / "sample_data"
