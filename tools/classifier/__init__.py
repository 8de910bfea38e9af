"""Image classifiers by transfer learning: class folders -> Keras model -> TFLite at every level.

`train` trains a model, `levels` converts it to the levels (float32 to integer-only), `evaluate`
measures all levels with one method.
TensorFlow is imported by `runtime` alone, and only when a command needs it.
"""
