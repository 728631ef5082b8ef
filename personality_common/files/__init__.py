"""Files that are complete or absent: atomic writes, staged folders, tensors, fingerprints."""
