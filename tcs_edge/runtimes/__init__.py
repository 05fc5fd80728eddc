"""Run models in PyTorch, ONNX Runtime, OpenVINO and ncnn behind one `Runner` protocol."""
