"""Sources -> documents without duplicates, divided, checked for leaks, on disk."""
