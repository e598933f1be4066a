"""Files of runs: atomic writes, locks, finished chunks and finished records."""
