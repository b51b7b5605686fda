"""Whatever people and programs do with leases: the table does what the naive one does, and every request ends.

LEASE_MODEL=5000x100 pytest tests/server/test_lease_model.py        a long search: examples x steps
"""

from __future__ import annotations

import pytest

from tests.server.lease_model import PROFILE, LeaseModel

TestLeases = LeaseModel.TestCase
TestLeases.settings = PROFILE
pytestmark = pytest.mark.timeout(3600)
