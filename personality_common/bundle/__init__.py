"""A folder that was exported: its parts, where its tensors are, and whether its files are whole."""
