"""Searches: the driver of a study, its log and folder, and what becomes of its trials."""
