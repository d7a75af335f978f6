"""Packages are found, not listed: three folders at the root stand under the one import name (see pyproject.toml)."""

from setuptools import find_packages, setup

ROOTS = {
    "memspec": "memspec",
    "memspec.reference": "reference",
    "memspec.suites": "suites",
    "memspec.fixtures": "fixtures",
}

setup(
    packages=[
        name for root, folder in ROOTS.items() for name in (root, *(f"{root}.{p}" for p in find_packages(folder)))
    ]
)
