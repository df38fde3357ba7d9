"""Normalizers to train with. Saved models name these modules: they stay where they are."""
