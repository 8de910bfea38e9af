"""Color data sets: label files, the training targets of their rows, and crops as arrays."""
