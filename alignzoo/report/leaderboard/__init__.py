"""Runs compared: folded by seed, sorted, marked where a difference may be noise; as a table, files and a page."""
