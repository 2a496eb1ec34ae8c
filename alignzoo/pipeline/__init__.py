"""Pipelines: runs that hand their model on to the next, each a stage with a run folder of its own."""
