"""The tables and figures of README.md and docs/, from the records in results/.

    python -m benchmarks.pages [--check]

`render` puts them at their markers; each other module makes those of one kind of record.
"""
