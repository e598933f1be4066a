"""Programs that measure this project from outside; they run from a clone and are not installed.

    python -m benchmarks.speed          time attacks and training beside other libraries
    python -m benchmarks.throughput     rate of one attack, beside that of matrix products
    python -m benchmarks.step_profile   time of each kind of operation in a step of an attack
    python -m benchmarks.flips          count outcomes that change with kernels, batches or threads
    python -m benchmarks.autoattack     run AutoAttack on the networks of a robustness run
    python -m benchmarks.study          train and evaluate what the study compares
    python -m benchmarks.pages          write the tables and figures of README.md and docs/ anew
"""
