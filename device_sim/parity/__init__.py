"""Prove that the packages of a bundle compute what the PyTorch model computes."""
