"""Frozen teachers: their registry, their weights, and their single pass over the images.

`registry` lists the teachers, `weights` finds the file, and `load` builds the model. `features` runs
the single pass, `readout` selects its output, and `cache` stores the features.
"""
