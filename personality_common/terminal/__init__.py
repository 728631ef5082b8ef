"""What a person sees of a command: its options, its progress, its words."""
