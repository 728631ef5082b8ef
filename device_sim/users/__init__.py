"""Simulated users, and the nights that they live through."""
