"""Models. Importing this package, which every user of a model does, sets TensorFlow up before it is loaded."""

import os

# Of every process that computes with a model, also of the endpoint in AWS.
TENSORFLOW = {"TF_ENABLE_ONEDNN_OPTS": "0"}  # the same sums in the same order on every processor

os.environ.update(TENSORFLOW)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters to a user is an exception
