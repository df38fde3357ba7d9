"""The method: which sites, which statistics, and what is written of them."""
