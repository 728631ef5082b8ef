"""Versions of the head, one of them active."""
