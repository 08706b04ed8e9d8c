"""Recipes that train in milliseconds, one for each kind of part that looks at batches, gradients or figures."""

from __future__ import annotations

from typing import Any

# 66 training samples in batches of 16: five updates an epoch, the last one of two samples, of which two of four
# processes have none. 22 samples of validation: the last batch of evaluation is short too. What a line tells began
# before the checkpoint at the end of the first epoch.
BASE = """\
recipe = 1
seed = 5
logger = []
[run]
duration = "2ep"
device = "cpu"
precision = "float64"
log_every = "3ba"
evaluate_every = "4ba"
save_best = false
{run}
[data]
use = "synthetic"
samples = 110
features = {features}
task = "{task}"
classes = {classes}
batch_size = 16
eval_batch_size = 12
{data}
[model]
{model}
[loss]
{loss}
[optimizer]
{optimizer}
{more}
"""
MLP = 'use = "mlp"\nwidths = [8]\n'
CONVNET = 'use = "convnet"\nwidths = [4, 6]\n'
SGD = 'use = "sgd"\nlr = 0.1\nmomentum = 0.9\n'


def metrics(*names: str) -> str:
    """These metrics."""
    return "\n".join(f'[[metric]]\nuse = "{name}"' for name in names)


def small(**parts: Any) -> str:
    """The small recipe with other parts, each as TOML."""
    given: dict[str, Any] = {
        **{"run": "", "features": [6], "task": "classification", "classes": 3, "data": "", "model": MLP},
        **{"loss": 'use = "cross_entropy"', "optimizer": SGD, "more": metrics("accuracy")},
    }
    return BASE.format(**(given | parts))


def images(**parts: Any) -> str:
    """The small recipe with images and a network of convolutions with BatchNorm."""
    return small(**{"features": [3, 8, 8], "model": CONVNET, **parts})


def with_optimizer(name: str, lr: float, more: str = "") -> str:
    """The small recipe with another optimizer."""
    return small(optimizer=f'use = "{name}"\nlr = {lr}\n{more}')


def with_callback(text: str, **parts: Any) -> str:
    """The small recipe, with BatchNorm, and a callback."""
    given = {"model": MLP + 'norm = "batch"', "more": metrics("accuracy") + f"\n[[callback]]\n{text}"}
    return small(**(given | parts))


BOTH, TWO, FOUR = (2, 4), (2,), (4,)

# name, recipe, numbers of processes
CASES: list[tuple[str, str, tuple[int, ...]]] = [
    # What is learned, what measures it, and what the loss divides by.
    ("classes", small(more=metrics("accuracy", "error", "f1", "ece", "top_k") + "\nk = 2"), BOTH),
    (
        "weighted",
        small(loss='use = "cross_entropy"\nclass_weights = [0.2, 1.0, 3.0]\nlabel_smoothing = 0.1'),
        TWO,
    ),
    (
        "binary",
        small(
            task="binary",
            loss='use = "binary"\npos_weight = 2.5',
            more=metrics("accuracy", "error", "f1", "ece"),
        ),
        TWO,
    ),
    ("regression", small(task="regression", loss='use = "huber"', more=metrics("mae", "r2", "rmse")), BOTH),
    ("one output", small(task="regression", classes=1, loss='use = "mae"', more=metrics("mae", "r2", "rmse")), TWO),
    ("no metric", small(more=""), TWO),
    # How batches are made.
    ("accumulate", small(run="accumulate = 3"), TWO),
    ("accumulate weighted", small(run="accumulate = 3", loss='use = "cross_entropy"\nbalance = true'), FOUR),
    ("microbatch", small(run="microbatch = 2"), TWO),
    ("microbatch auto", small(run='microbatch = "auto"'), TWO),
    ("streamed", small(data='loading = "streamed"\nworkers = 0'), TWO),
    ("balanced", small(data='sampling = "balanced"\n[[data.augment]]\nuse = "mixup"\nalpha = 0.4'), TWO),
    ("drop last", small(data="drop_last = true\nshuffle = false"), TWO),
    (
        "growing batch",
        small(
            more=metrics("accuracy")
            + '\n[[schedule.also]]\ntarget = "data.batch_size"\nuse = "growth"\nevery = "1ep"\nmaximum = 4'
        ),
        BOTH,
    ),
    ("uneven", small(data="").replace("batch_size = 16", "batch_size = 13"), BOTH),
    (
        "crop and flip",
        images(data='[[data.augment]]\nuse = "random_crop"\npadding = 1\n[[data.augment]]\nuse = "flip"'),
        TWO,
    ),
    ("mixup", small(data='[[data.augment]]\nuse = "mixup"\nalpha = 0.4'), TWO),
    ("cutmix", images(data='loading = "streamed"\nworkers = 0\n[[data.augment]]\nuse = "cutmix"'), TWO),
    # Norms.
    ("batch norm", small(model=MLP + 'norm = "batch"'), BOTH),
    ("convolutions", images(), BOTH),
    (
        "afterwards",
        small(model=MLP + 'norm = "batch"', more='[[logger]]\nuse = "afterwards"').replace("logger = []", ""),
        TWO,
    ),
    ("batch norm accumulated", images(run="accumulate = 2"), TWO),
    ("dropout", small(model=MLP + "dropout = 0.3", run="accumulate = 2"), TWO),
    ("dropout of images", images(model=CONVNET + "dropout = 0.5"), TWO),
    (
        "dropout twice",
        small(model=MLP + "dropout = 0.3", optimizer=SGD + '[[optimizer.wrap]]\nuse = "sam"\nrho = 0.05'),
        TWO,
    ),
    ("layer norm", small(model=MLP + 'norm = "layer"'), TWO),
    ("resnet", images(model='use = "resnet"\ndepth = 8\nwidth = 4'), TWO),
    # Optimizers and wrappers.
    ("adamw", with_optimizer("adamw", 0.02, "weight_decay = 0.1"), TWO),
    ("adafactor", with_optimizer("adafactor", 0.02), TWO),
    ("lion", with_optimizer("lion", 0.003), TWO),
    ("lamb", with_optimizer("lamb", 0.02), TWO),
    ("lars", with_optimizer("lars", 0.1), TWO),
    ("rprop", with_optimizer("rprop", 0.01), TWO),
    ("asgd", with_optimizer("asgd", 0.05), TWO),
    ("sgd_hd", with_optimizer("sgd_hd", 0.05), TWO),
    ("schedulefree", with_optimizer("schedulefree_adamw", 0.02), TWO),
    ("prodigy", with_optimizer("prodigy", 1.0), TWO),
    ("lbfgs", with_optimizer("lbfgs", 0.02, "max_iter = 3"), TWO),
    ("muon", small(optimizer='use = "muon"\nlr = 0.02\n[optimizer.rest]\nuse = "adamw"\nlr = 0.01'), TWO),
    ("sam", small(model=MLP + 'norm = "batch"', optimizer=SGD + '[[optimizer.wrap]]\nuse = "sam"\nrho = 0.05'), TWO),
    ("asam", small(optimizer=SGD + '[[optimizer.wrap]]\nuse = "asam"\nrho = 0.5', run="accumulate = 2"), TWO),
    ("lookahead wrapper", small(optimizer=SGD + '[[optimizer.wrap]]\nuse = "lookahead"'), TWO),
    # Callbacks.
    ("ema", with_callback('use = "ema"\ndecay = 0.9\nbuffers = "re-estimate"'), BOTH),
    ("ema buffers", with_callback('use = "ema"\ndecay = 0.9'), TWO),
    ("switch ema", with_callback('use = "switch_ema"\ndecay = 0.9'), TWO),
    ("swa", with_callback('use = "swa"\nstart = "0.5dur"\nevery = "2ba"'), TWO),
    ("lawa", with_callback('use = "lawa"\nlast = 2'), TWO),
    (
        "lookahead",
        with_callback('use = "lookahead"\nevery = "3ba"\nevaluate = "slow"\nbuffers = "slow"\nepoch_end = "slow"'),
        TWO,
    ),
    (
        "gradients",
        with_callback(
            'use = "gradient_centralization"\n[[callback]]\nuse = "gradient_noise"\n[[callback]]\nuse = "agc"\n'
            '[[callback]]\nuse = "clip_value"\nmax_value = 0.05\n[[callback]]\nuse = "clip_norm"\nmax_norm = 0.1\n'
            '[[callback]]\nuse = "norms"\n[[callback]]\nuse = "update_ratio"\nevery = "2ba"'
        ),
        TWO,
    ),
    (
        "freeze",
        with_callback('use = "freeze"\nmatch = ["body.*"]\nunfreeze = {"body.1.*" = "3ba", "body.*" = "7ba"}'),
        TWO,
    ),
    ("freeze fixed", with_callback('use = "freeze"\nmatch = ["body.*"]\nbatch_norm = "fix"'), TWO),
    (
        "early stop",
        with_callback('use = "early_stop"\nmonitor = "val.accuracy"\npatience = 1\nmin_delta = 0.5'),
        TWO,
    ),
    ("views", images(more=metrics("accuracy") + '\n[[callback]]\nuse = "test_time_augmentation"'), TWO),
    ("keep checkpoints", with_callback('use = "keep_checkpoints"\nat = ["3ba"]'), TWO),
    # Schedules and reactions.
    (
        "plateau",
        small(
            more=metrics("accuracy") + '\n[schedule]\nuse = "cosine"\nwarmup = "2ba"\n[[schedule.react]]\n'
            'use = "plateau"\nmonitor = "val.loss"\npatience = 0\nthreshold = 0.3'
        ),
        TWO,
    ),
    # Members inside one model.
    ("batch ensemble", small(model='use = "batch_ensemble"\nof = { use = "mlp", widths = [8] }'), TWO),
    ("packed", small(model='use = "packed"\nof = { use = "mlp", widths = [8] }'), TWO),
    ("own loss", with_callback('use = "by_index"'), BOTH),
    # Updates left out.
    ("skip", small(run='nonfinite = "skip"'), TWO),
]

# Recipes that are not those of one process, or that several refuse.
LOCAL = {"model": MLP + 'norm = "batch"', "run": 'batchnorm = "local"'}
OTHERS: list[tuple[str, str, tuple[int, ...]]] = [
    ("local statistics", small(**LOCAL, data="drop_last = true"), BOTH),
    ("local once", small(**LOCAL, data="drop_last = true").replace('"2ep"', '"1ba"'), (1, 2, 4)),
    ("too few for local statistics", small(**LOCAL), BOTH),
    ("wandering", small(model='use = "wandering"'), TWO),
    ("unwilling", with_callback('use = "unwilling"'), TWO),
    ("compared samples", small(loss='use = "comparing"'), TWO),
    ("small batch", small().replace("batch_size = 16", "batch_size = 3"), FOUR),
]
