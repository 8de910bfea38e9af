"""Color models and color labels: data sets, labelling, evaluation and int8 model folders.

`data` has label files and data sets, `pixels` an object's mask and the names of its colors, `study`
the comparison with an earlier study. The network is in `tools.architectures.color`, its training in
`tools.train`, the page on which a person labels in `tools.annotate`.
"""
