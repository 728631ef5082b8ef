"""What was said, to find again and to forget: one SQLite file, derived from the log."""
