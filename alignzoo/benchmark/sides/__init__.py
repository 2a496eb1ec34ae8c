"""The programs that the benchmark compares, each in a process of its own: a plain TRL script, alignzoo, others."""
