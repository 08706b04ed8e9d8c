"""Runs of equal structure, trained together as lanes of one vectorised model."""
