"""What a package of the personality model must be: for the exporter and for whoever checks it."""
