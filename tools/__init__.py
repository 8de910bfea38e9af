"""Workstation tools: train, quantize, evaluate, validate and benchmark the models of `edge`."""
