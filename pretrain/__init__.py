"""Conversations to a trained personality model, and from there to Core ML packages."""
