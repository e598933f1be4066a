r"""Attack CIFARconv or its EMPIR ensemble on CIFAR-10; train a network where there is none yet.

    python examples/cifar10_attack.py --model_path=checkpoints/cifar10/model3-fp --attack=pgd
    python examples/cifar10_attack.py --abits=2 --wbits=4 --abits2=2 --wbits2=2 --ensembleThree \
        --model_path1=checkpoints/cifar10/model1-w4a2 --model_path3=checkpoints/cifar10/model3-fp \
        --model_path2=checkpoints/cifar10/model2-w2a2 --protocol=paper

The three last lines of standard output are the result; --out=DIR keeps the whole record.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from empir.commands import commandline  # noqa: E402


def setup():
    """Define the flags; returns the main function."""
    from empir.commands import attack

    return attack.setup("cifar10")


if __name__ == "__main__":
    commandline.run_main(setup)
