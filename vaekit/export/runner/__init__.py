"""What runs an exported model without torch: parts of the file `runner.py`, which numpy and onnxruntime alone carry."""
