"""Versions of anything that is trained, one of them active: gated, pinned, rolled back, audited."""
