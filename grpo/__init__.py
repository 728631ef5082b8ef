"""Group relative policy optimization of a linear head: tensors only, no Core ML."""
