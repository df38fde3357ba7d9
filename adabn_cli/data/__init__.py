"""Pictures to batches of normalized tensors (`folder`), and their labels (`labels`).

Knows no model, checkpoint or engine beyond what `Preprocessing` says.
"""
