"""Schemas of the records that the benchmarks and the study make, and pages are made from."""

from empir.report.shapes import (
    AMOUNT,
    COUNT,
    DATA,
    FRACTION,
    IMAGES,
    MEMBER,
    NUMBER,
    POSITIVE,
    TEXT,
    Every,
    Some,
    maybe,
)

#: Of `python -m benchmarks.flips`.
FLIPS = {
    "num_examples": IMAGES,
    "data": DATA,
    "processor": TEXT,
    "against": maybe(TEXT),
    "changes": Some(
        {
            "protocol": TEXT,
            "change": TEXT,
            "images": IMAGES,
            "accuracy": FRACTION,
            "changed_accuracy": FRACTION,
            "flips": COUNT,
            "now_correct": COUNT,
        }
    ),
}
SYSTEM = {
    "seconds": Some(POSITIVE),
    "forward_passes": maybe(AMOUNT),
    "prepare": AMOUNT,
    "first": POSITIVE,
    "peak_memory_mb": maybe(AMOUNT),
}
#: benchmark/comparison.json.
COMPARISON = {
    "attacks": Every(
        {
            "systems": Every(SYSTEM),
            "parameters": {
                name: COUNT for name in ("nb_iter", "max_iterations", "binary_search_steps")
            },
            "gflop": POSITIVE,
            "gemm_gflops": Some(POSITIVE),
            "pytorch_gemm_gflops": Some(POSITIVE),
            "pytorch_convolution_gflops": Some(POSITIVE),
            "onnxruntime_convolution_gflops": Some(POSITIVE),
        }
    ),
    "training": Every(Every(Some(POSITIVE))),
    "startup": {"parts": Every(NUMBER), "total": NUMBER},
}
#: What is asked of any record in benchmark/ that a page names the machine of.
MEASURED = {"processor": TEXT}
#: benchmark/account-DATASET.json.
ACCOUNT = {
    "batch_size": COUNT,
    "layers": {"milliseconds": Every(AMOUNT), "step": NUMBER},
    "engine": {"milliseconds": Every(AMOUNT), "step": NUMBER},
}
#: benchmark/DATASET-ATTACK.json.
THROUGHPUT = {
    "batch_size": COUNT,
    "images_per_second": POSITIVE,
    "gflops": NUMBER,
    "gemm_gflops": NUMBER,
    "peak_memory_mb": NUMBER,
}
#: benchmark/cluster.json.
CLUSTER = {
    "process": {"rate": POSITIVE, "startup": NUMBER},
    "workers": {"rate": POSITIVE, "startup": NUMBER},
    "overhead": POSITIVE,
    "many": {"workers": COUNT, "overhead": POSITIVE},
}
#: benchmark/scale.json.
SCALE = {
    "attack": TEXT,
    "runs": Some(
        {
            "images": IMAGES,
            "wall": POSITIVE,
            "seconds": Every(NUMBER),
            "peak_memory_mb": POSITIVE,
            "images_mb": AMOUNT,
        }
    ),
}
_LEFT = {"seconds": POSITIVE, "accuracy": FRACTION}
#: benchmark/suite_time.json.
SUITE_TIME = {
    "processor": TEXT,
    "images": IMAGES,
    "rows": Every({"suite": _LEFT, "autoattack": _LEFT, "equal": maybe(AMOUNT)}),
}
#: cost.json.
COST = {
    "ensembles": Every(
        {
            "architecture": TEXT,
            "members": Some({"precision": TEXT, "quantized_parameters": COUNT}),
            "full_precision": {"parameters": COUNT},
            "overhead_percent": Every(NUMBER),
        }
    )
}
#: inference.json.
INFERENCE = {
    "networks": Every(
        {
            "members": Some(TEXT),
            "bytes": Every(Every(COUNT)),
            "resident_mb": Every(NUMBER),
            "cells": Some(
                {
                    "system": TEXT,
                    "network": TEXT,
                    "precision": TEXT,
                    "threads": COUNT,
                    "batch": COUNT,
                    "milliseconds": Some(POSITIVE),
                }
            ),
        }
    )
}
#: study/gradients/DATASET-RADIUS.json.
GRADIENTS = {
    "members": Some(MEMBER),
    "num_examples": IMAGES,
    "clean": Some(FRACTION),
    "transfer": Some(Some(FRACTION)),
    "cosine": Some(Some(NUMBER)),
    "sign_cosine": Some(Some(NUMBER)),
    "length_ratio": Every(Some(AMOUNT)),
    **{
        loss: {"zero_images": Some(FRACTION), "zero_pixels": Some(FRACTION)}
        for loss in ("cross_entropy", "double_softmax")
    },
}
#: training.json of a training whose epochs were tested.
TRAINING = {"history": Some({"test_accuracy": FRACTION})}
