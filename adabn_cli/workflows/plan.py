"""What a run would do, before it does it."""

from __future__ import annotations

from adabn_cli.workflows.adapt import Job
from adabn_cli.workflows.judging import forwards_to_come


def plan_of(job: Job) -> dict[str, object]:
    """The plan of a prepared job, by name; nothing has been adapted or written."""
    target, sites = job.pictures.target, job.opened.model.sites
    selected = job.installer.selected
    return {
        "model": str(job.request.model.path),
        "architecture": job.opened.model.architecture,
        "architecture_source": job.opened.model.architecture_source,
        "sites": len(sites),
        "sites_to_adapt": [site.name for site in sites if site.name in selected],
        "target": str(target.path),
        "images": job.pictures.images,
        "skipped": len(target.skipped),
        "labels": job.pictures.labels.source,
        "size": list(job.preprocessing.size),
        "mean": list(job.preprocessing.mean),
        "std": list(job.preprocessing.std),
        "preprocessing_source": job.preprocessing.source,
        "method": job.installer.adaptation.method,
        "forwards": 1 + forwards_to_come(job.installer),
        "engine": job.request.engine,
        "device": job.opened.model.device,
        "folder": str(job.folder),
        "warnings": list(job.warnings),
    }
