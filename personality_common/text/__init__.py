"""Text encoders, and what makes an encoder that encoder."""
