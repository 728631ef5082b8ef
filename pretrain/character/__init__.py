"""A story's character: 453 features in, four heads out."""
