"""memspec.suites: the executable specification, one module an axis.

Run them with ``pytest suites --memory=...`` (or ``pytest --pyargs memspec.suites``), or reuse one in a test file of
your own::

    from memspec.suites.test_capacity import *

    @pytest.fixture(scope="session")
    def memory():
        return MyMemory
"""
