"""What a run would do, before it does it."""

from __future__ import annotations

from adabn_cli.jobs.adapt.prepare import Job
from adabn_cli.jobs.method.judging import forwards_to_come


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
        "target_kind": target.kind,
        "images": job.pictures.images,
        **({"until_converged": job.search.tolerance} if job.search else {}),
        "skipped": len(target.skipped),
        "left_out": [f"{n} {suffix or 'without suffix'}" for suffix, n in target.left_out.items()],
        "converted": [f"{n} {kind}" for kind, n in target.conversions.items()],
        "labels": job.pictures.labelled_by,
        "size": list(job.preprocessing.size),
        "mean": list(job.preprocessing.mean),
        "std": list(job.preprocessing.std),
        "preprocessing_source": job.preprocessing.source,
        "method": job.installer.adaptation.method,
        "forwards": 1 + forwards_to_come(job.installer),
        "engine": job.request.engine,
        "device": job.opened.model.device,
        **resources_of(job),
        "folder": str(job.folder),
        "warnings": list(job.warnings),
    }


def resources_of(job: Job) -> dict[str, object]:
    """Where batches wait, and estimates of memory, disk (bytes) and time (seconds), by name."""
    memory, exact = job.memory, job.engine.side_by_side
    waiting, adapting = memory.waiting, forwards_to_come(job.installer)
    plain = memory.probe.seconds * job.pictures.images
    return {
        "batches_in_memory": waiting.in_memory,
        "batches_on_disk": waiting.on_disk,
        "batches_run_again": waiting.rerun,
        "memory_bytes": waiting.memory_bytes,
        "memory_limit_bytes": memory.limit_bytes,
        "disk_bytes": waiting.disk_bytes,
        "spill_dir": str(waiting.folder),
        "seconds": round(plain + adapting * (waiting.seconds if exact else 2 * plain), 3),
    }
