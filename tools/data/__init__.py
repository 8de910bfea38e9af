"""`edge-tools data`: labelled pictures from elsewhere into one form, checked, split and looked at.

The form is a folder: `images/`, and COCO JSON beside it (`annotations.json` of all pictures, then
`train.json`, `val.json`, `test.json`), read by `tools.dataset`. What goes wrong with one picture or
box is one line on standard error; it is left out, the rest is done, and the exit code is 1.
"""
