"""Color models and color labels: data sets, labelling, evaluation and int8 model folders.

The network is in `tools.architectures.color`, its training in `tools.train`, the page on which a
person labels in `tools.annotate`.
"""
