"""Workstation tools: train, quantize, evaluate, validate and benchmark the models of `edge`."""

import edge  # noqa: F401 - before OpenCV, also in a Dask worker: it limits the size of pictures
