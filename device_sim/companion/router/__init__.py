"""Where a record goes at night: into the adapter, into memory, into both or into neither."""
