"""The kinds of component, and what one may say about itself."""

from __future__ import annotations

TYPE_CHECKING = False  # as in trainkit/__init__.py: typing is not worth its import for ``list``
if TYPE_CHECKING:
    from collections.abc import Mapping

# What the core can give to a factory of each kind, by name (parameters before ``/``).
GIVEN: Mapping[str, Mapping[str, str]] = {
    "data": {
        "seed": "int, the recipe's seed, or that of [data]",
        "data_root": "Path that relative paths start from: TRAINKIT_DATA, else the working directory",
        "cache_root": "Path for downloads and decoded caches: TRAINKIT_CACHE, else the user's cache folder",
        "progress": "Progress: call progress(done, total, text) while something takes long",
    },
    "augmentation": {"data_spec": "DataSpec of the data"},
    "model": {
        "data_spec": "DataSpec of the data",
        "data_root": "Path that relative paths start from: TRAINKIT_DATA, else the working directory",
    },
    "loss": {"data_spec": "DataSpec of the data"},
    "metric": {"data_spec": "DataSpec of the data", "loss": "Loss, the recipe's"},
    "optimizer": {"params": "list of parameter groups: dicts with 'params', 'names' and what the recipe overrides"},
    "wrapper": {
        "optimizer": "Optimizer to wrap, its groups already in place",
        "model": "nn.Module that is trained",
    },
    "schedule": {},
    "reaction": {},
    "callback": {"data_spec": "DataSpec of the data", "seed": "int, the recipe's seed"},
    "logger": {"data_spec": "DataSpec of the data", "seed": "int, the recipe's seed"},
    "searcher": {"seed": "int, the recipe's seed"},
    "ensembler": {"seed": "int, the recipe's seed"},
    "executor": {},
}
KINDS = tuple(GIVEN)

# What a component may say it can or cannot do, so that impossible pairs are found before the run.
CAPABILITIES: Mapping[str, str] = {
    "needs_closure": "the optimizer calls the loss again itself (L-BFGS)",
    "needs_metric": "the reaction has nothing to do without a figure to look at",
    "absolute": "the schedule gives values themselves, such as 0.04 to 0.4, not factors on the recipe's value",
    "jumps": "the schedule jumps by design",
    "monotone": "the schedule only falls or only rises, with any settings, in a run of any length",
    "elementwise": "the optimizer's update of one number depends on that number's gradient and state alone",
    "own_lr": "the optimizer sets its own learning rate, which no schedule may set",
    "single_group": "the optimizer refuses different settings per parameter group",
    "one_lr": "the optimizer refuses a learning rate of its own per parameter group",
    "max_ndim": "largest number of dimensions of a parameter that the optimizer takes",
    "min_ndim": "smallest number of dimensions of a parameter that the optimizer takes",
    "hidden_weights": "the optimizer is for hidden layers: embeddings and the head go to [optimizer.rest]",
    "sparse": "the optimizer takes sparse gradients alone",
    "compiles": "may be part of a compiled step",
    "multi_objective": "the searcher weighs several objectives against each other",
    "elsewhere": "the executor trains on other machines, and can be told with --on which",
    "repeatable": "the same seed gives the same study, with any number of workers",
    "lanes": "whether it may take part in lanes; true: its numbers may be tensors, one for each lane",
    "higher_is_better": "a higher figure of the metric is a better one; false where a lower one is",
    "mixes": "the augmentation mixes samples of a batch with each other: it is given whole batches",
    "whole_batches": "the loss compares the samples of a batch with each other: parts of a batch are other batches",
    "shards": 'works where each process has some rows of the weights and gradients (strategy = "fsdp")',
    "every_update": "the callback must be called at every single update, not at call boundaries",
}
# Things of a run that exactly one component may take over.
OWNABLE = ("step", "loss", "evaluation", "parameter_groups")
