"""Numbers in, checks out: does the exported model compute what the trained one computes?"""
