"""Compares the trainers' losses with the papers' equations: value and gradient, on a tiny fixed batch."""
