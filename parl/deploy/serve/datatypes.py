"""The words of KServe's protocol for dtypes."""

import numpy as np

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float32": "FP32", "float64": "FP64",
}  # fmt: skip
DTYPES = {word: np.dtype(name) for name, word in DATATYPES.items()}
