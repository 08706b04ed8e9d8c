"""trainkit: one TOML recipe names everything a training needs; plugins supply it; a small core runs it.

The names listed here are the public ones. Each is imported when it is first used: ``trainkit --help`` needs none of
them, and those that need torch would take over a second.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers take it for typing's own, whose import would cost a third of ``--help``
if TYPE_CHECKING:
    from typing import Any

    from trainkit.branch import begin_from as begin_from
    from trainkit.bridge import check_bridge as check_bridge
    from trainkit.capture import printing_to as printing_to
    from trainkit.component import Component as Component
    from trainkit.dataset import Batch as Batch
    from trainkit.dataset import Dataset as Dataset
    from trainkit.dataset import DataSpec as DataSpec
    from trainkit.dataset import Feed as Feed
    from trainkit.dataset import Gatherable as Gatherable
    from trainkit.dataset import Split as Split
    from trainkit.dataset import Vocabulary as Vocabulary
    from trainkit.elementwise import ElementwiseOptimizer as ElementwiseOptimizer
    from trainkit.elementwise import Number as Number
    from trainkit.elementwise import Rule as Rule
    from trainkit.ensemble.aligned import variance_of as variance_of
    from trainkit.ensemble.costs import multiplications as multiplications
    from trainkit.ensemble.opened import Ensemble as Ensemble
    from trainkit.ensemble.opened import load_ensemble as load_ensemble
    from trainkit.ensemble.together import Together as Together
    from trainkit.ensembler import Cost as Cost
    from trainkit.ensembler import Ensembler as Ensembler
    from trainkit.ensembler import Member as Member
    from trainkit.ensembler import Validation as Validation
    from trainkit.ensembler import Workshop as Workshop
    from trainkit.errors import CheckpointError as CheckpointError
    from trainkit.errors import DataError as DataError
    from trainkit.errors import MachineError as MachineError
    from trainkit.errors import Place as Place
    from trainkit.errors import PluginError as PluginError
    from trainkit.errors import Problem as Problem
    from trainkit.errors import RecipeError as RecipeError
    from trainkit.errors import RunError as RunError
    from trainkit.errors import TrainkitError as TrainkitError
    from trainkit.errors import UsageError as UsageError
    from trainkit.evidence import wilson as wilson
    from trainkit.feed.splits import fingerprint as fingerprint
    from trainkit.feed.splits import split_by_fraction as split_by_fraction
    from trainkit.feed.splits import standardise as standardise
    from trainkit.heads import predicted as predicted
    from trainkit.hookspecs import hookimpl as hookimpl
    from trainkit.lane_group import LaneGroup as LaneGroup
    from trainkit.lane_group import LaneSpeed as LaneSpeed
    from trainkit.lane_group import lane_speed as lane_speed
    from trainkit.norms import whole_norm as whole_norm
    from trainkit.parameters import layers_of as layers_of
    from trainkit.protocols import Augmentation as Augmentation
    from trainkit.protocols import Continues as Continues
    from trainkit.protocols import Draw as Draw
    from trainkit.protocols import Events as Events
    from trainkit.protocols import Loss as Loss
    from trainkit.protocols import Metric as Metric
    from trainkit.protocols import Optimizer as Optimizer
    from trainkit.protocols import Phase as Phase
    from trainkit.protocols import Progress as Progress
    from trainkit.protocols import Reaction as Reaction
    from trainkit.protocols import Schedule as Schedule
    from trainkit.recipe import named_tables as named_tables
    from trainkit.recipe import problem_at as problem_at
    from trainkit.remembering import for_events as for_events
    from trainkit.report.ending import write_run_page as write_run_page
    from trainkit.report.ensemble import write_ensemble_page as write_ensemble_page
    from trainkit.report.pictures import write_picture as write_picture
    from trainkit.report.samples import as_pixels as as_pixels
    from trainkit.report.study import write_study_page as write_study_page
    from trainkit.run import Metrics as Metrics
    from trainkit.run import Report as Report
    from trainkit.run import Run as Run
    from trainkit.run import StepResult as StepResult
    from trainkit.scoring import score as score
    from trainkit.scoring import scores as scores
    from trainkit.search.contour import Contour as Contour
    from trainkit.search.contour import contour_of as contour_of
    from trainkit.search.looking import choice_text as choice_text
    from trainkit.search.looking import has_setting as has_setting
    from trainkit.search.looking import main_settings as main_settings
    from trainkit.search.looking import number_text as number_text
    from trainkit.search.looking import visible_limits as visible_limits
    from trainkit.search.timeline import Course as Course
    from trainkit.search.timeline import course_of as course_of
    from trainkit.settings import Between as Between
    from trainkit.settings import Duration as Duration
    from trainkit.settings import Fraction as Fraction
    from trainkit.settings import Nested as Nested
    from trainkit.settings import NonNegative as NonNegative
    from trainkit.settings import NonNegativeInt as NonNegativeInt
    from trainkit.settings import Period as Period
    from trainkit.settings import Positive as Positive
    from trainkit.settings import PositiveInt as PositiveInt
    from trainkit.settings import Resume as Resume
    from trainkit.signals import Stopper as Stopper
    from trainkit.signals import cut_short as cut_short
    from trainkit.space import Dimension as Dimension
    from trainkit.space import Limit as Limit
    from trainkit.space import Point as Point
    from trainkit.space import Space as Space
    from trainkit.text_table import TextTable as TextTable
    from trainkit.text_table import is_missing as is_missing
    from trainkit.text_table import read_text_table as read_text_table
    from trainkit.thinned import Thinned as Thinned
    from trainkit.trial import Objective as Objective
    from trainkit.trial import Order as Order
    from trainkit.trial import Record as Record
    from trainkit.trial import Rung as Rung
    from trainkit.trial import Searcher as Searcher
    from trainkit.trial import Study as Study
    from trainkit.trial import Trial as Trial
    from trainkit.trial_run import Datasets as Datasets
    from trainkit.trial_run import open_plugins as open_plugins
    from trainkit.trial_run import run_job as run_job
    from trainkit.weights import exchanged as exchanged
    from trainkit.weights import renew_batch_norm as renew_batch_norm
    from trainkit.weights import renew_statistics as renew_statistics
    from trainkit.weights import weights_of as weights_of
    from trainkit.work import Executor as Executor
    from trainkit.work import Job as Job
    from trainkit.work import Measured as Measured
    from trainkit.work import Outcome as Outcome
    from trainkit.work import Site as Site
    from trainkit.wrapping import OptimizerWrapper as OptimizerWrapper

__version__ = "0.1.0"

_MODULES = {
    "branch": ("begin_from",),
    "bridge": ("check_bridge",),
    "capture": ("printing_to",),
    "component": ("Component",),
    "dataset": ("Batch", "DataSpec", "Dataset", "Feed", "Gatherable", "Split", "Vocabulary"),
    "elementwise": ("ElementwiseOptimizer", "Number", "Rule"),
    "ensemble.aligned": ("variance_of",),
    "ensemble.costs": ("multiplications",),
    "ensemble.opened": ("Ensemble", "load_ensemble"),
    "ensemble.together": ("Together",),
    "ensembler": ("Cost", "Ensembler", "Member", "Validation", "Workshop"),
    "errors": (
        "CheckpointError",
        "DataError",
        "MachineError",
        "Place",
        "PluginError",
        "Problem",
        "RecipeError",
        "RunError",
        "TrainkitError",
        "UsageError",
    ),
    "evidence": ("wilson",),
    "feed.splits": ("fingerprint", "split_by_fraction", "standardise"),
    "heads": ("predicted",),
    "hookspecs": ("hookimpl",),
    "lane_group": ("LaneGroup", "LaneSpeed", "lane_speed"),
    "protocols": (
        "Augmentation",
        "Continues",
        "Draw",
        "Events",
        "Loss",
        "Metric",
        "Optimizer",
        "Phase",
        "Progress",
        "Reaction",
        "Schedule",
    ),
    "recipe": ("named_tables", "problem_at"),
    "remembering": ("for_events",),
    "report.ending": ("write_run_page",),
    "report.ensemble": ("write_ensemble_page",),
    "report.pictures": ("write_picture",),
    "report.samples": ("as_pixels",),
    "report.study": ("write_study_page",),
    "run": ("Metrics", "Report", "Run", "StepResult"),
    "scoring": ("score", "scores"),
    "search.contour": ("Contour", "contour_of"),
    "search.looking": ("choice_text", "has_setting", "main_settings", "number_text", "visible_limits"),
    "search.timeline": ("Course", "course_of"),
    "settings": (
        "Between",
        "Duration",
        "Fraction",
        "Nested",
        "NonNegative",
        "NonNegativeInt",
        "Period",
        "Positive",
        "PositiveInt",
        "Resume",
    ),
    "signals": ("Stopper", "cut_short"),
    "space": ("Dimension", "Limit", "Point", "Space"),
    "text_table": ("TextTable", "is_missing", "read_text_table"),
    "thinned": ("Thinned",),
    "trial": ("Objective", "Order", "Record", "Rung", "Searcher", "Study", "Trial"),
    "trial_run": ("Datasets", "open_plugins", "run_job"),
    "work": ("Executor", "Job", "Measured", "Outcome", "Site"),
    "norms": ("whole_norm",),
    "parameters": ("layers_of",),
    "weights": ("exchanged", "renew_batch_norm", "renew_statistics", "weights_of"),
    "wrapping": ("OptimizerWrapper",),
}
_HOMES = {name: f"trainkit.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "Augmentation",
    "Batch",
    "Between",
    "CheckpointError",
    "Component",
    "Continues",
    "Contour",
    "Cost",
    "Course",
    "DataError",
    "DataSpec",
    "Dataset",
    "Datasets",
    "Dimension",
    "Draw",
    "Duration",
    "ElementwiseOptimizer",
    "Ensemble",
    "Ensembler",
    "Events",
    "Executor",
    "Feed",
    "Fraction",
    "Gatherable",
    "Job",
    "LaneGroup",
    "LaneSpeed",
    "Limit",
    "Loss",
    "MachineError",
    "Measured",
    "Member",
    "Metric",
    "Metrics",
    "Nested",
    "NonNegative",
    "NonNegativeInt",
    "Number",
    "Objective",
    "Optimizer",
    "OptimizerWrapper",
    "Order",
    "Outcome",
    "Period",
    "Phase",
    "Place",
    "PluginError",
    "Point",
    "Positive",
    "PositiveInt",
    "Problem",
    "Progress",
    "Reaction",
    "RecipeError",
    "Record",
    "Report",
    "Resume",
    "Rule",
    "Run",
    "RunError",
    "Rung",
    "Schedule",
    "Searcher",
    "Site",
    "Space",
    "Split",
    "StepResult",
    "Stopper",
    "Study",
    "TextTable",
    "Thinned",
    "Together",
    "TrainkitError",
    "Trial",
    "UsageError",
    "Validation",
    "Vocabulary",
    "Workshop",
    "as_pixels",
    "begin_from",
    "check_bridge",
    "choice_text",
    "contour_of",
    "course_of",
    "cut_short",
    "exchanged",
    "fingerprint",
    "for_events",
    "has_setting",
    "hookimpl",
    "is_missing",
    "lane_speed",
    "layers_of",
    "load_ensemble",
    "main_settings",
    "multiplications",
    "named_tables",
    "number_text",
    "open_plugins",
    "predicted",
    "printing_to",
    "problem_at",
    "read_text_table",
    "renew_batch_norm",
    "renew_statistics",
    "run_job",
    "score",
    "scores",
    "split_by_fraction",
    "standardise",
    "variance_of",
    "visible_limits",
    "weights_of",
    "whole_norm",
    "wilson",
    "write_ensemble_page",
    "write_picture",
    "write_run_page",
    "write_study_page",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainkit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
