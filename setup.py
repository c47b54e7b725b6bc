"""Puts recipes and the quickstart's start into the wheel, from where they lie in the checkout; all else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("configs", "data/quickstart")


class BuildWithRecipes(build_py):
    """An editable install reads them from the checkout."""

    def run(self) -> None:
        """Copies them into the package that is built."""
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                shutil.copytree(name, Path(self.build_lib, "videochat_r1", name), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})
