"""The machine beneath: processes, memory, disk, locks, signals and the cache; knows nothing of alignment."""
