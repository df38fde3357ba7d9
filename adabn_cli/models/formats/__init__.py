"""File formats: an object for each that says how such a file is recognized, read and written."""
