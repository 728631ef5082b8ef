"""An exported language model as it arrives: what its files must be, and how they are read."""
