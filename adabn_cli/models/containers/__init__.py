"""Files of tensors: where each tensor lies in the bytes, and how it is patched there."""
