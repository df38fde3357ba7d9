"""What is checked before a model is adapted, and told."""
