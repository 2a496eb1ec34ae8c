"""Computes the reference model's log-probabilities once before the training, and caches them on disk."""
