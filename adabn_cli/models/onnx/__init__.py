"""ONNX graphs, run by onnxruntime in stages that end at the sites."""
