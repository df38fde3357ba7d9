"""Folders that other libraries write: a configuration and a file of weights."""
