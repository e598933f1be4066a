"""Write the tables and figures of README.md and docs/ from the records in results/.

    python -m benchmarks.pages            write them
    python -m benchmarks.pages --check    write nothing; fail if a page differs from the records

With --check standard error names each page that differs, with its tables and figures that do. The
record of a suite that has an images.npz beside it is computed again from that file first.
"""

from benchmarks.pages.render import main
from empir.commands import commandline

if __name__ == "__main__":
    commandline.run_words(main, __doc__)
