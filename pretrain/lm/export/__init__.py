"""A trained language model as files that other runtimes load."""
