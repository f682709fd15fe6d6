"""The operator's image, built from this checkout and unpacked. Without a node: nothing of it runs here but commands.

`make test` runs this where images can be built, and says so where they cannot. In CI, and in `make test-image`, that is
a failure.
"""

from pathlib import Path

import pytest

from image import Archive, image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The guard against a hang leaves time to build what has changed since `make image`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def archive() -> Archive:
    return Archive(image())


@pytest.fixture(scope="session")
def root(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of a container, with owners and modes."""
    folder = tmp_path_factory.mktemp("root")
    archive.unpack(folder)
    folder.chmod(0o755)  # as a runtime has it: others than root get in
    return folder
