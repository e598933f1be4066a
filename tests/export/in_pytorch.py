"""What exported folders compute, in the environment of PyTorch: python in_pytorch.py FOLDER...

Each folder holds an export and inputs.npz; outputs.npz is written beside them. The arrays of
inputs.npz are images, float32 [n, channels, height, width], and labels, int64 [n]. Where there is
a blocks.json, a list of names and blocks of Python, they are run in order, and it is replaced by
what went wrong with each.
"""

import functools
import importlib.util
import json
import os
import sys
import tempfile
import traceback

import numpy as np
import torch
from torch.nn import functional

LOSSES = {
    "cross_entropy": lambda z, y: functional.cross_entropy(z, y, reduction="sum"),
    "margin": lambda z, y: margins(z, y).sum(),
    "dlr": lambda z, y: (margins(z, y) / spread(z)).sum(),
}


def margins(logits, labels):
    """The best wrong logit over that of the true class."""
    true = functional.one_hot(labels, logits.shape[1]).bool()
    return logits.masked_fill(true, -1e9).amax(1) - logits[true]


def spread(logits):
    """The largest logit over the third, as of the difference of logits ratio."""
    top = logits.topk(3, dim=1).values
    return top[:, 0] - top[:, 2] + 1e-12


def gradients(net, images, labels):
    """Name -> gradient with respect to the images: of losses, of views, and of backward passes."""
    views = {f"loss {name}": (net.view("decision"), loss) for name, loss in LOSSES.items()}
    for name in ("full_precision", "majority_probs"):
        views[f"view {name}"] = (net.view(name), LOSSES["cross_entropy"])
    for name in ("open", "smooth"):
        views[f"backward {name}"] = (net.with_backward(name), LOSSES["cross_entropy"])
    found = {}
    for name, (view, loss) in views.items():
        x = images.clone().requires_grad_(True)
        (found[name],) = torch.autograd.grad(loss(view(x), labels), x)
    return found


def refusals(model, folder):
    """What `load` says of folders with other settings and other weights: name -> message."""
    with open(os.path.join(folder, "config.json")) as file:
        config = json.load(file)
    with open(os.path.join(folder, "weights.safetensors"), "rb") as file:
        weights = file.read()
    bits = dict(config["members"][0]["layers"]["conv1"], weight_bits=32)
    member = dict(config["members"][0], layers=dict(config["members"][0]["layers"], conv1=bits))
    size = 8 + int.from_bytes(weights[:8], "little")
    lacking = weights[8:size].replace(b"networks.0.conv1.weight", b"networks.0.conv9.weight")
    changed = {
        "foreign": ({"model_type": "bert"}, weights),
        "network": (dict(config, architecture="VGG"), weights),
        "bits": (dict(config, members=[member] + config["members"][1:]), weights),
        "digest": (config, weights[:-1] + b"?"),
        "missing": (dict(config, weights_sha256=None), weights[:8] + lacking + weights[size:]),
        "cut off": (dict(config, weights_sha256=None), weights[:100]),
    }
    found = {}
    for name, (settings, content) in changed.items():
        with tempfile.TemporaryDirectory() as other:
            with open(os.path.join(other, "config.json"), "w") as file:
                json.dump(settings, file)
            with open(os.path.join(other, "weights.safetensors"), "wb") as file:
                file.write(content)
            try:
                model.load(other)
                found[name] = "nothing"
            except ValueError as error:
                found[name] = str(error)
    return found


def run_blocks(path, folder, images, labels):
    """Run blocks that are for a folder, with short attacks."""
    import pyautoattack

    torch.compile = functools.partial(torch.compile, backend="aot_eager")
    standard = pyautoattack.AutoAttack.run_standard_evaluation

    def short(attack, *arguments, **named):
        for part in (attack.apgd, attack.apgd_targeted, attack.fab):
            part.n_iter = 2
        attack.square.n_queries = 5
        return standard(attack, *arguments, **named)

    pyautoattack.AutoAttack.run_standard_evaluation = short
    sys.path.insert(0, folder)
    values, wrong = {"images": images[:4], "labels": labels[:4]}, {}
    with open(path) as file:
        blocks = json.load(file)
    for name, text in blocks:
        try:
            exec(compile(text, name, "exec"), values)
            change = torch.as_tensor(values.pop("found", values["images"])) - values["images"]
            assert change.shape == values["images"].shape and change.abs().max() < 8 / 255 + 1e-6
            wrong[name] = ""
        except Exception:
            wrong[name] = traceback.format_exc()
    with open(path, "w") as file:
        json.dump(wrong, file)


def main(folder):
    """Write the outputs of a folder."""
    spec = importlib.util.spec_from_file_location("model", os.path.join(folder, "model.py"))
    model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(model)
    net = model.load()
    with np.load(os.path.join(folder, "inputs.npz")) as file:
        images, labels = (torch.from_numpy(file[key]) for key in ("images", "labels"))
    found = {"logits": net(images), "members": net.members(images), "vote": net.vote(images)}
    found["decision"], found["first alone"] = net.decision(images), net(images[:1])
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        found["on a GPU"] = model.load().to("cuda").members(images.to("cuda")).cpu()
    for name in ("majority_probs", "followed"):
        found[f"view {name}"] = net.view(name, images)(images)
    found.update((f"gradient, {key}", g) for key, g in gradients(net, images, labels).items())
    arrays = {name: tensor.detach().numpy() for name, tensor in found.items()}
    np.savez(os.path.join(folder, "outputs.npz"), **arrays)
    blocks = os.path.join(folder, "blocks.json")
    if os.path.exists(blocks):
        with open(os.path.join(folder, "refusals.json"), "w") as file:
            json.dump(refusals(model, folder), file)
        run_blocks(blocks, folder, images, net.decision(images))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for path in sys.argv[1:]:
        main(path)
