"""Torch -> Core ML, with stand-ins for the parameters."""
