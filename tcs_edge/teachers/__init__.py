"""Frozen teachers: their registry, their weights, and their single pass over the images.

`source` finds the teacher of a run: a registered one (`registry`, `weights`, `load`), an ONNX file (`onnx_teacher`)
or a file of features (`given`). `features` runs the single pass, `readout` selects its output, and `cache` stores it.
"""
