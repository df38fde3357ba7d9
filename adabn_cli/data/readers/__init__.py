"""Where pictures come from: one file per reader, and which one a path asks for (`kinds`)."""
