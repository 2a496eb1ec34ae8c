"""Whether a machine and what is installed on it can run alignzoo."""
