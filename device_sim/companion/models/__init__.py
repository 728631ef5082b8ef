"""What answers: llama.cpp, transformers or MLX in this process, or a server that speaks OpenAI's protocol."""
