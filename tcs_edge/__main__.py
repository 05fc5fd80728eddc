"""Run the command line as `python -m tcs_edge`."""

from tcs_edge.cli import main

if __name__ == "__main__":
    main()
