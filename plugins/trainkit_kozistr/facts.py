"""What signatures do not say of the library's optimizers: found by trying them and by reading their code."""

from __future__ import annotations

from collections.abc import Mapping

_OWN_BRIDGE = "is measured at a point of its own", 'write use = "{}", which comes with trainkit\'s own bridge'
_GRAPH = "needs gradients that can be differentiated again (create_graph), which no step of trainkit makes", ""
_MODEL = "must be given the model and does the backward pass itself", ""
_OBJECTS = "keeps objects in its state that no checkpoint can hold", ""

# Optimizers that cannot be used from a recipe: why, and what to do instead.
REFUSED: Mapping[str, tuple[str, str]] = {
    "a2grad": ("has no learning rate that a schedule could set", ""),
    "adahessian": _GRAPH,
    "adalomo": _MODEL,
    "adammini": ("must be given the model, whose layers it tells apart by name", ""),
    "alig": ("makes its rate from the value of the loss, which it asks for without gradients", ""),
    "bsam": ("makes steps of its own inside a closure, and its update fails with groups of parameters", ""),
    "conda": _OBJECTS,
    "demo": ("is for training in several processes", ""),
    "distributedmuon": ("is for training in several processes", 'write use = "kozistr:muon"'),
    "lomo": _MODEL,
    "lorarite": ("is for pairs of LoRA factors alone", ""),
    "magma": ("wraps another optimizer, whose state it keeps to itself", ""),
    "sara": ("left the weights as they were in every test", ""),
    "scalableshampoo": (_OBJECTS[0], 'write use = "kozistr:shampoo"'),
    "schedulefreeadamw": (_OWN_BRIDGE[0], _OWN_BRIDGE[1].format("schedulefree_adamw")),
    "schedulefreeradam": (_OWN_BRIDGE[0], _OWN_BRIDGE[1].format("schedulefree_radam")),
    "schedulefreesgd": (_OWN_BRIDGE[0], _OWN_BRIDGE[1].format("schedulefree_sgd")),
    "sophiah": _GRAPH,
    "splus": ("is measured at an average of its own", 'add [[callback]] use = "ema" to another optimizer'),
}

# For matrices and kernels alone: the library takes other parameters in groups that it hands to an AdamW of its own.
MUON = ("adago", "adamuon", "muon", "muonclip", "normuon")
# For matrices alone.
MATRICES = ("spectralsphere",)
# Their step is scaled by how the loss develops, which they see through a closure.
CLOSURE = ("emofact", "emolynx", "emonavi", "lbfgs")
SINGLE_GROUP = ("lbfgs",)
# They work out the learning rate and leave it in the groups.
OWN_LR = ("asgd",)
# The rate is estimated for all parameters together; the authors' code refuses groups with rates of their own.
ONE_LR = ("dadaptadagrad", "dadaptadam", "dadaptadan", "dadaptlion", "dadaptsgd", "prodigy")
# Numbers that change from update to update and belong to no parameter: in the state under a name of their own ...
LOOSE = ("emofact", "emolynx", "emonavi", "madgrad", "spam")
# ... or in attributes of the optimizer.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "emofact": ("prev_loss",),
    "ranger21": ("lookahead_step", "current_lr"),
    "stablespam": ("total_step",),
}
# Settings of groups that no checkpoint can hold as they are; they come from the library again.
CONSTANTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(MUON, ("ns_coeffs",)),
    "kron": ("mu_dtype", "precondition_dtype"),
    "rose": ("compute_dtype",),
}
# State that is no plain data and can be written as such.
QUEUES = ("adashift",)
NUMBERED = ("aggmo",)

# Matrices that the next update reads in the order in which they lie in memory, which no checkpoint keeps.
RELAID = ("soap",)

# Under another licence than the library's Apache-2.0, as its documentation says.
LICENCES: Mapping[str, str] = {"fromage": "CC BY-NC-SA 4.0", "nero": "CC BY-NC-SA 4.0"}

# Without a default in the library.
EXAMPLES: Mapping[str, Mapping[str, int]] = {"bsam": {"num_data": 50000}, "ranger21": {"num_iterations": 1000}}

# Contracts of optimizers that the library's code does not keep, and what it does instead.
_ONE_DIRECTION = "the library counts a missing gradient as zero: it has one direction for all parameters together"
EXEMPT: Mapping[str, Mapping[str, str]] = {
    "adafactor": dict.fromkeys(
        ("follows_a_schedule", "keeps_the_rates_of_groups_apart"),
        "with relative_step, which is the default, it works out its rate",
    ),
    "adai": {"trains_bfloat16_weights": "its mean of squares over all weights is not finite in bfloat16"},
    "apollodqn": dict.fromkeys(
        ("follows_a_schedule", "keeps_the_rates_of_groups_apart"),
        "over its first 500 updates its rate rises by itself to the lr that it was built with",
    ),
    "dadaptadan": {
        "follows_a_schedule": "the rate is a factor within its averages, so that another one acts in later updates"
    },
    "fadam": {"trains_float64_weights": "it keeps its averages in float32, and does not convert them"},
    "ftrl": {"follows_a_schedule": "its weights are a quotient of all gradients and of the rate, which is no step"},
    "gravity": {"keeps_the_rates_of_groups_apart": "it begins with a random velocity, which is divided by the rate"},
    "lbfgs": {
        "leaves_alone_what_has_no_gradient": _ONE_DIRECTION,
        "leaves_frozen_parameters_alone": "the state of all parameters is kept with the first one",
    },
    "srmm": {
        "keeps_the_rates_of_groups_apart": "its first updates go to an average of the weights, which begins at zero"
    },
    "spam": {"leaves_frozen_parameters_alone": "it makes a mask for every parameter, trained or not"},
}

# Help for settings that many of them have.
HELP: Mapping[str, str] = {
    "lr": "learning rate.",
    "betas": "decay of the moving averages.",
    "momentum": "share of the last update's direction that is kept.",
    "eps": "keeps divisors above zero.",
    "weight_decay": "weight decay; weight_decouple says which, where there is that setting.",
    "weight_decouple": "take the decay off the weights instead of adding it to the gradient.",
    "fixed_decay": "a decoupled decay is not multiplied by the learning rate.",
    "ams_bound": "divide by the largest mean square so far.",
    "rectify": "rectify the step as RAdam does.",
    "n_sma_threshold": "updates from which on the step is rectified.",
    "degenerated_to_sgd": "plain descent before that.",
    "adanorm": "scale gradients up to the average of their norm.",
    "adam_debias": "correct the divisor alone for its start.",
    "nesterov": "look ahead along the momentum.",
    "cautious": "leave out what points against the gradient.",
    "foreach": "update all parameters in one operation; unset lets the library choose.",
    "ns_steps": "iterations of the polynomial that makes a matrix orthogonal.",
    "num_iterations": "planned updates of the whole run.",
    "d0": "first estimate of the distance.",
    "growth_rate": "the estimate grows at most by this factor an update.",
    "safeguard_warmup": "leave lr out of the estimate, so that a warm-up does not spoil it.",
}
