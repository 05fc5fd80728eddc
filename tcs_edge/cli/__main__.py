"""`python -m tcs_edge.cli`, for where the console script is not on the path."""

from tcs_edge.cli import main

if __name__ == "__main__":
    main()
