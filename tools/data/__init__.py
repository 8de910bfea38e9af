"""`edge-tools data`: imports, checks, splits and shows labelled pictures.

A data set is a folder: `images/`, and COCO JSON beside it (`annotations.json` of all pictures, then
`train.json`, `val.json`, `test.json`), read by `tools.dataset`. A picture or box that cannot be
imported is left out and reported as one line on standard error; the rest is imported, and the exit
code is 1.
"""
