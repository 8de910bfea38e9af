"""Image classifiers by transfer learning: class folders -> Keras model -> every level of int8.

`train` makes a model folder, `levels` converts it, `evaluate` measures all levels with one method.
TensorFlow is imported by `runtime` alone, and only when a command needs it.
"""
