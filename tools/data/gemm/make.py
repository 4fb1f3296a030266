#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the matrices of this folder: random a and b, and their product.

The product is computed in 64-bit floats and rounded once, so that it does not
depend on any order of summation.

usage: make.py [FOLDER]         needs numpy
"""

import sys
from pathlib import Path

import numpy as np

ROWS, INNER, COLUMNS = 96, 64, 80
SEED = 11


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    random = np.random.default_rng(SEED)
    a = random.standard_normal((ROWS, INNER)).astype(np.float32)
    b = random.standard_normal((INNER, COLUMNS)).astype(np.float32)
    product = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    for name, array in {"a": a, "b": b, "product": product}.items():
        np.save(folder / f"{name}.npy", array)


if __name__ == "__main__":
    main()
