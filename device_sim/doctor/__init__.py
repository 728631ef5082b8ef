"""What works on this machine: each library at work for a moment, and facts for a bug report."""
