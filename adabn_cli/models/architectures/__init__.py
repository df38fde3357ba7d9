"""From weights to a network: which architecture they belong to, and how it is built."""
