"""The stages of a run, one public verb each: typed input in, values out."""
