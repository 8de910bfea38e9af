"""Accuracy and speed of detectors, measured with the daemon's own code: `evaluate detect`.

`accuracy`: COCO's metrics. `confusion`: confusion matrix. `subjects`: the models that can be
measured. `kernels`: whether TFLite's kernels agree. `pictures`: a sheet of hits and errors.
`report`: tables and files.
"""
