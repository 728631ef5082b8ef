"""Many phones with their own users, heads and texts."""
