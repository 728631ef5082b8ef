"""Run the packages that ship, update their head as a phone would, and verify what changed."""
