"""Reports: what a run has come to, in words and as a page."""
