"""How an update of the head reaches a package: `patch`, `update-task`, `state`; each on a copy."""
