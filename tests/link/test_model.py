"""Any interleaving of faults gives each message once, in order and whole, or one clear end of the session.

LINK_MODEL=2000x150 pytest tests/link/test_model.py        a long search: examples x steps
"""

from __future__ import annotations

import pytest

from tests.link.model import PROFILE, LinkModel

TestLink = LinkModel.TestCase
TestLink.settings = PROFILE
pytestmark = pytest.mark.timeout(3600)
