"""Make a part of the study, or go on with it.

    python -m benchmarks.study --part=seeds --data_dir=FOLDER

Every training and every evaluation is a command of its own, which goes on where a killed one
stopped. What is finished is kept: a training's weights in --runs, its training.json in
results/study/trainings, and an evaluation's record in results/study/PART, as NAME.json and, with
what was found on each image, NAME.npz. An evaluation whose record is there is not made again, nor
is a network trained that only such evaluations need.
"""

from benchmarks.study import run
from empir.commands import commandline

if __name__ == "__main__":
    commandline.run_main(run.setup, about=__doc__)
