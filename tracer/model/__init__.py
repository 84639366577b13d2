"""What touches the user's model and this process, and puts it back. May import text, ops, records and errors."""
