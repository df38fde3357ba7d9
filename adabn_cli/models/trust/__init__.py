"""What a model file may import and run: decided before anything is loaded."""
