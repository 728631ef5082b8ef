"""The companion by day: a local model chats; what was said is kept, filtered, searchable, forgettable."""
