"""Composes, explains and checks a run's configuration."""
