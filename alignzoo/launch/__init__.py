"""Where and how often a run runs: here, in several processes, on Slurm or Ray, in a sweep, in a pipeline."""
