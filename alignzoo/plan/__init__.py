"""Plans a run's memory and time on each device, from the model's config alone.

The model is built of fake tensors, which have shapes but no values, and goes through the passes of a run while the
live bytes are counted. What needs no pass (weights, optimizer state, sharding) is arithmetic.
"""
