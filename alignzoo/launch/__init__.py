"""Starts runs: in this process or in several, on Slurm or Ray, as jobs of a sweep or stages of a pipeline."""
