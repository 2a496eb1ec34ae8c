"""Samples a model's own answers to the training prompts, scores them, and makes rows to train on of them."""
