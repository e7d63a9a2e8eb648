from setuptools import find_packages, setup

setup(
    name="helloworld",
    version="1.1.0",
    description="A package to be installed by the demonstration",
    packages=find_packages(),
    entry_points={"console_scripts": ["helloworld=helloworld.cli:main"]},
)
