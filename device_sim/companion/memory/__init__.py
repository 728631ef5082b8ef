"""What was said, to find again and to forget: chunks, vectors and words in one SQLite file, derived from the log."""
