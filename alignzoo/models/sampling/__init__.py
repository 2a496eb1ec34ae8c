"""Samples many completions at once: prompts are read once, what has ended leaves the batch."""
