r"""Attack MNISTconv or its EMPIR ensemble on MNIST; train a network where there is none yet.

    python examples/mnist_attack.py --model_path=checkpoints/mnist/model3-fp --attack=pgd
    python examples/mnist_attack.py --wbits=2 --abits=4 --wbits2=2 --abits2=4 --ensembleThree \
        --model_path1=checkpoints/mnist/model1-w2a4 --model_path2=checkpoints/mnist/model2-w2a4 \
        --model_path3=checkpoints/mnist/model3-fp --protocol=paper

The three last lines of standard output are the result; --out=DIR keeps the whole record.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from empir.commands import commandline  # noqa: E402


def setup():
    """Define the flags; returns the main function."""
    from empir.commands import attack

    return attack.setup("mnist")


if __name__ == "__main__":
    commandline.run_main(setup)
