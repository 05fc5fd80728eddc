"""Running a model: torch, ONNX Runtime and OpenVINO behind one `Runner` protocol."""
