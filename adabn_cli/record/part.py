"""What every part of a record is: frozen plain data. Knows no torch and no file."""

from __future__ import annotations

from math import isfinite
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict

#: A figure, None where it is NaN or infinite: JSON has neither.
Finite = Annotated[
    float | None, BeforeValidator(lambda x: x if x is not None and isfinite(x) else None)
]


class Part(BaseModel):
    """Unknown keys are kept out of a new record and ignored in one of a later version."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())
