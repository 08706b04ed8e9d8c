"""What these tests share: a recipe that reads a file."""

from __future__ import annotations

# Its path is line 11, which tests of messages name.
RECIPE = """\
recipe = 1
logger = []
[run]
duration = "1ep"
threads = 1
device = "cpu"
[data]
use = "csv"
target = "y"
batch_size = 8
path = {path}
[model]
use = "linear"
[loss]
use = "mse"
[optimizer]
use = "sgd"
lr = 0.01
"""
