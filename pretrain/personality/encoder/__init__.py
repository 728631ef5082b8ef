"""The text encoder as PyTorch modules, read from the folder of a saved SentenceTransformer."""
