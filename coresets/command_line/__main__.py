"""``python -m coresets.command_line``: the command ``coresets`` where scripts are not on the path."""

from coresets.command_line import main

if __name__ == "__main__":
    main()
