r"""Attack AlexNet or its EMPIR ensemble on ImageNet; train a network where there is none yet.

    python examples/alexnet_attack.py --imagenet_path=TFRECORDS --model_path=CHECKPOINT --attack=pgd
    python examples/alexnet_attack.py --imagenet_path=TFRECORDS --batch_size=100 --ensembleThree \
        --abits=2 --wbits=2 --abits2=4 --wbits2=4 --model_path1=CHECKPOINT \
        --model_path2=CHECKPOINT --model_path3=CHECKPOINT --protocol=paper

The three last lines of standard output are the result; --out=DIR keeps the whole record.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from empir.commands import commandline  # noqa: E402


def setup():
    """Define the flags; returns the main function."""
    from empir.commands import attack

    return attack.setup("imagenet")


if __name__ == "__main__":
    commandline.run_main(setup)
