"""Trainers of the methods whose loss or advantages TRL does not have, on TRL's own sampling and scoring."""
