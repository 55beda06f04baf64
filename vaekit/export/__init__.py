"""A fitted model for places without torch: ONNX graphs, torch.export programs, and a file that runs the former."""

from vaekit.export.bundle import Export, export

__all__ = ["Export", "export"]
