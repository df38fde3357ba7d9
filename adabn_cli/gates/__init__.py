"""A record against limits and against an earlier run. Knows no torch."""
