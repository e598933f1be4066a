"""Files of runs: atomic writes, locks, chunks, finished records, and where a clone's files are."""
