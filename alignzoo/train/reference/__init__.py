"""The reference model's log-probabilities: computed once before the training, and kept on disk."""
