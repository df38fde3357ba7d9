"""One target measured in shards, by machines that never meet, and merged."""
