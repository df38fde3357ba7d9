"""Where pictures come from: one file per kind of place, and which kind a path is (`kinds`)."""
