"""Export the trained model as ONNX and in the runtimes' own formats, with its labels and preprocessing."""
