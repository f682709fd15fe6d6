"""The documentation as a site (``make docs``): what MkDocs cannot do by itself.

``hooks`` brings in what pages refer to outside of docs/; ``drawings`` shows Mermaid without a script from elsewhere.
"""
