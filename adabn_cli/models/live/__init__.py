"""Live modules whose forward waits at every site."""
