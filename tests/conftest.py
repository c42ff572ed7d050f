"""What holds for every test: how fast a machine makes inputs is no defect. And how often the long ones do what they do."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Counts of soak tests; scripts/soak.py hands them on."""
    group = parser.getgroup("soak")
    group.addoption("--kills", type=int, default=200, metavar="N", help="recorders that tests/crash kills (soak; default 200)")
    group.addoption("--copies", type=int, default=200, metavar="N", help="file system images that tests/crash recovers (soak; default 200)")
    group.addoption("--questions", type=int, default=500, metavar="N", help="random clips and seeks of tests/media (soak; default 500)")
    group.addoption("--seed", type=int, default=7, metavar="N", help="what they are drawn from (soak; default 7)")
    group.addoption("--question", type=int, metavar="N", help="ask only that one of the seed's (soak)")


@pytest.fixture
def questions(request: pytest.FixtureRequest) -> int:
    """How many random clips and seeks are checked."""
    return int(request.config.getoption("--questions"))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What random clips and seeks are drawn from."""
    return int(request.config.getoption("--seed"))


@pytest.fixture
def question(request: pytest.FixtureRequest) -> int | None:
    """The only one to ask; None: all."""
    only: int | None = request.config.getoption("--question")
    return only


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How many recorders are killed."""
    return int(request.config.getoption("--kills"))


@pytest.fixture
def copies(request: pytest.FixtureRequest) -> int:
    """How many images are recovered, over all file systems."""
    return int(request.config.getoption("--copies"))
