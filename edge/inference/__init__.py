"""Inference on files: what `edge infer` and `edge-tools infer` share.

`inputs` reads images and videos, `tasks` makes a picture's entry in the output, `objects` reads
what pictures show, `options` declares the arguments.
"""
