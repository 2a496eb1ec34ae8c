"""The yardstick: the same measurements for every method, on the same held-out rows, against the same start model."""
