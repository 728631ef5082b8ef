"""What answers: llama.cpp in this process, or a server that speaks OpenAI's protocol."""
