"""Training of adapters: torch and peft on the dequantised weights of the very file that llama.cpp serves."""
