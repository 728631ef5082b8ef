"""Conversations of other tools, into a companion's log."""
