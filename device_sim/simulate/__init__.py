"""Life on a device: nights of feedback on the package that ships, and what must hold afterwards."""
