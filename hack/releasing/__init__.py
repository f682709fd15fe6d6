"""Whether HEAD can be released: ``python -m releasing``, by ``make release-check``. Not here: the release itself, which
.github/workflows/release.yaml makes of a tag.
"""
