"""What was measured, how far it may go, and what follows."""
