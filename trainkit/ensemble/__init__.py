"""Ensembles: from finished members to one model, its figures and its folder."""
