"""Personal data and keys found and masked before anything is written: less is kept, not nothing."""
