"""What a project requires, found, locked once, and had as wheels."""
