"""memspec.suites: the executable specification, one module and one class an axis.

Run them with ``pytest suites --memory=...`` (or ``pytest --pyargs memspec.suites``), or reuse some in a test file of
your own; every check of every class is collected, whatever is combined::

    from memspec.suites.test_capacity import TestCapacity
    from memspec.suites.test_claims import TestClaims

    @pytest.fixture(scope="session")
    def memory():
        return MyMemory

To test several memories in one file, subclass instead, and override the fixture in each class.
"""
