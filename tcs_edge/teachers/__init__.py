"""The frozen teachers: which there are, how their weights are found, and their one pass over the images.

`registry` names them, `weights` finds and reads the file, `load` builds the model, `features` runs the
single pass, `cache` keeps its result, `probe` says how good the features are on the user's own data.
"""
