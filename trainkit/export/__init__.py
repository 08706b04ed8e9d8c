"""Finished runs and ensembles as programs that need no trainkit: torch.export and ONNX."""
