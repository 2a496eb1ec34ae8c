"""Trains one run; run.py is the file to read first."""
