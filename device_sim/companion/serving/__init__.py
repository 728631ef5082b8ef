"""The companion behind an endpoint: for this machine's clients of OpenAI and of Ollama, and for a browser."""
