"""The study: what EMPIR's robustness owes to seeds, precision, and the number of members.

    python -m benchmarks.study --part=seeds --data_dir=FOLDER

`plan` says, as data, which networks are trained and how each is attacked; `run` makes what is
missing. docs/study.md says what was found; `benchmarks.pages` makes its tables and figures.
"""
