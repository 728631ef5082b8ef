"""Sources -> records -> texts, their keys and their split."""
