"""From any preference data to the rows a method trains on: source, canonical rows, checks, tokens, split, format."""
