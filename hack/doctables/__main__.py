"""``python -m doctables``: see the package."""

from doctables import write

if __name__ == "__main__":
    write()
