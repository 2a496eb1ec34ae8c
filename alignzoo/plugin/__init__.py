"""What a plugin subclasses and hooks, and how it is found."""
