"""Run models in PyTorch, ONNX Runtime, OpenVINO, ncnn and LiteRT behind one `Runner` protocol."""
