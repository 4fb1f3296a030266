#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the files of this folder: images, labels and a small trained network.

The first TRAINED images train the network; the others never reach it, so the
accuracy on them says how well it does on images it has not seen. The seed is
fixed, and the same versions of the libraries give the same files.

usage: train.py [FOLDER]        needs numpy and scikit-learn
"""

import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

TRAINED = 1200
HIDDEN = 128
SEED = 7


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    digits = load_digits()
    # Grey values 0 to 16; the network sees them divided by 16.
    images = digits.data.astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    scaled = images.astype(np.float32) / np.float32(16)

    network = MLPClassifier(
        hidden_layer_sizes=(HIDDEN,),
        activation="relu",
        solver="adam",
        alpha=1e-2,
        max_iter=400,
        random_state=SEED,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(scaled[:TRAINED], labels[:TRAINED])

    arrays = {
        "images": images,
        "labels": labels,
        "w1": network.coefs_[0].astype(np.float32),
        "b1": network.intercepts_[0].astype(np.float32),
        "w2": network.coefs_[1].astype(np.float32),
        "b2": network.intercepts_[1].astype(np.float32),
    }
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, np.ascontiguousarray(array))
        checksum = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{checksum}  {name}.npy")

    hidden = np.maximum(scaled @ arrays["w1"] + arrays["b1"], 0)
    guess = (hidden @ arrays["w2"] + arrays["b2"]).argmax(axis=1)
    right = guess == labels
    print(f"trained on 0..{TRAINED - 1}: {right[:TRAINED].mean():.4f}", file=sys.stderr)
    print(
        f"held out {TRAINED}..{len(labels) - 1}: {right[TRAINED:].mean():.4f}"
        f" ({right[TRAINED:].sum()} of {len(labels) - TRAINED})",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
