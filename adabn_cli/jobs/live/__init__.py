"""The main job for Python code: a live module and any iterable of batches. Writes nothing."""
