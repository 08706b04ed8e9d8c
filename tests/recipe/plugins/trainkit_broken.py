"""A plugin that cannot be imported."""

raise ImportError("libmuon.so.1: cannot open shared object file")
