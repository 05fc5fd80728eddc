"""Run models in PyTorch, ONNX Runtime and OpenVINO behind one `Runner` protocol."""
