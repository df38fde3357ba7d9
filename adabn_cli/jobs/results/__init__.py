"""From what was measured to the parts of a record."""
