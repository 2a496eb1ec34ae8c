"""How much memory and time a run will take on each device, from the model's config alone.

The model is built of fake tensors, which have shapes and no values, and is taken through the passes of a run while
the bytes of what is alive are counted. What needs no pass (weights, optimizer state, sharding) is arithmetic.
"""
