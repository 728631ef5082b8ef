"""Adapters: what a night leaves of a language model's learning, with versions, and as it is served."""
