"""Hydra's config group `method`, to which this package adds `ppo`."""
