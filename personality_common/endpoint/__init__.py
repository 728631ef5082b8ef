"""A model behind HTTP, as clients of OpenAI and of Ollama expect it: messages in, a stream of tokens out."""
