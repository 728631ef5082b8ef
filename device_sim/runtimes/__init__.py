"""What computes a package's outputs: Core ML itself, the interpreter, or the PyTorch mirror."""
