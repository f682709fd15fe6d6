"""``python -m doctables``: see the package."""

from doctables import files

if __name__ == "__main__":
    for page, text in files().items():
        page.write_text(text, encoding="utf-8")
