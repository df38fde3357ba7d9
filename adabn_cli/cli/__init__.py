"""The door: one file a command, one error boundary. Importing it does not import torch."""
