"""A small language model: from text to a decoder that llama.cpp, transformers and Ollama run."""
