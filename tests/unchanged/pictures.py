"""The pictures that every command is given: some of the sample data, by relative paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE_DATA = Path(__file__).resolve().parents[2] / "sample_data"


def lay_out(folder: Path) -> None:
    """Puts source/ (10 of each digit), target/ (4), masks/ and labels.csv into the folder."""
    for name, count in (("source", 10), ("target", 4)):
        for digit in sorted((SAMPLE_DATA / name).iterdir()):
            (folder / name / digit.name).mkdir(parents=True)
            for picture in sorted(digit.iterdir())[:count]:
                (folder / name / digit.name / picture.name).write_bytes(picture.read_bytes())
    rows = ["path,label"]
    for picture in sorted((folder / "target").rglob("*.png")):
        inside = picture.relative_to(folder / "target")
        mask = folder / "masks" / inside
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.asarray(Image.open(picture)) > 127).astype(np.uint8)).save(mask)
        rows.append(f"{inside},{picture.parent.name}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
