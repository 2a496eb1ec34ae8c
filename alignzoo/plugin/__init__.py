"""Defines what a plugin subclasses and hooks, and finds the installed plugins."""
