"""What a language model can do: small tasks, judged on the answers it gives, without another model."""
