"""One training, top to bottom; run.py is the file to read first."""
