"""Which op of a package loses the precision."""
