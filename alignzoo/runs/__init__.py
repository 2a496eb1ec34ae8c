"""The run folder: written once, read in one place, resumed."""
