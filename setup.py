"""Install with `pip install -e .[cpu]` or `.[gpu]` in a Python 3.7 environment (see README.md)."""

import os
import re

from setuptools import find_packages, setup

HERE = os.path.dirname(os.path.abspath(__file__))


def read(*path):
    """Text of a file of this repository."""
    with open(os.path.join(HERE, *path), encoding="utf8") as file:
        return file.read()


def pinned(path):
    """Requirements of a file, without its comments."""
    lines = (line.partition("#")[0].strip() for line in read(path).splitlines())
    return [line for line in lines if line]


setup(
    name="empir",
    version=re.search(r'^VERSION = "(.*)"', read("empir", "runtime.py"), re.M).group(1),
    description="EMPIR: ensembles of mixed-precision networks against adversarial attacks",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    classifiers=[
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.7",
        "Programming Language :: Python :: 3.8",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    # With the folder named, an editable install is a path, not a hook that comes after all paths: a
    # script beside a clone called empir would import that folder instead of the package in it.
    package_dir={"": "."},
    packages=find_packages(include=["empir", "empir.*"]),
    package_data={
        "empir.data": ["samples/*", "imagenet_synsets.txt"],
        "empir.export": ["card.md"],
        "empir.published": ["*.json"],
        "empir.report": ["page.html", "checks.md"],
    },
    entry_points={"console_scripts": ["empir = empir.commands.main:main"]},
    zip_safe=False,  # data files are opened by their paths
    python_requires=">=3.7,<3.9",  # 3.8 with NVIDIA's build of TensorFlow 1.15 (docs/gpu.md)
    # TensorFlow comes with an extra, cpu or gpu: two builds of it cannot be installed together.
    install_requires=[
        "keras==2.2.4",
        # The original calls its fork CleverHans 1.0.0, which was never published to the package
        # index. 2.1.0 is the oldest release there; its Model and Attack are those that were forked.
        "cleverhans==2.1.0",
        "numpy>=1.16,<1.19",
        "h5py<3",
        "protobuf<3.21",
        "absl-py>=0.9",
        "tqdm>=4.58",
        "matplotlib>=3.3,<3.6",
        "foolbox==2.4.0",  # the last that attacks any function, and needs no PyTorch
        "jinja2>=3.0,<3.2",
        "pillow",
        "google-crc32c>=1.1,<2",  # TFRecords' checksums
        "pooch>=1.6,<1.9",  # 1.8 is the last for Python 3.7; fetches checkpoints
        "pyyaml",  # the head of a model card
        "safetensors>=0.4,<0.6",  # the weights of exported PyTorch networks
        "scipy>=1.7",  # the first with binomtest
    ],
    extras_require={
        "cpu": ["intel-tensorflow==1.15.2"],
        "gpu": ["tensorflow-gpu==1.15.*"],
        "cluster": pinned("requirements-cluster.txt"),
        "onnx": pinned("requirements-onnx.txt"),
        "test": pinned("requirements-test.txt"),
    },
)
