"""Model files: formats, and the networks that are built from them."""
