"""A phone's week lived with a simulated user who chats, and what each part of it was good for."""
