"""A run of the character predictor as files that other runtimes load."""
