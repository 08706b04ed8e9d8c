"""One recipe several times, over seeds, over folds, or both: so that a figure comes with its spread."""
