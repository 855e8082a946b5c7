"""The checks of this repository, one nox session each. `.ci/run` installs nox and runs them."""

import contextlib
import filecmp
import hashlib
import re
import shutil
import tempfile
import zipfile
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent.parent

# The first release, those that changed the event after an invocation, and the first with an event of
# orchestrators (1.23), with plugins of agents (1.28) and with plugins of orchestrators (1.41).
RELEASES = ["1.0.0", "1.20.0", "1.23.0", "1.24.0", "1.28.0", "1.30.0", "1.41.0", "1.43.0"]
UNPINNED = {"newest": "strands-agents", "prerelease": "strands-agents>=1.0.dev0"}

nox.options.default_venv_backend = "virtualenv"  # works wherever pip does
nox.options.envdir = str(ROOT / ".nox")
nox.options.reuse_venv = "yes"
nox.options.allow_parallel = True
# The whole check, beginning with what fails soonest. The hosts are last, because they run alone.
nox.options.sessions = [
    *("lint", "types", "build", "tests", "quickstart", "coverage", "workflows", "dist", "sdist"),
    *("compatibility", *(f"strands({release})" for release in RELEASES), "providers", "hosts"),
]


def prepare(session, *requirements):
    """Go to the root of the repository, and install what the session needs."""
    session.chdir(ROOT)
    installed = Path(session.virtualenv.location, "installed")
    session.install(*requirements, silent=installed.exists())  # later, pip only lists what is there
    installed.touch()


def built(suffix):
    """Return the path of the file in dist/ that has this suffix."""
    (path,) = (ROOT / "dist").glob(f"*{suffix}")
    return str(path)


@contextlib.contextmanager
def earlier_version(session):
    """Give the path of the unpacked sdist of 0.1.0, from PyPI."""
    name = "strands-token-telemetry"
    with tempfile.TemporaryDirectory() as folder:
        options = "--quiet", "--no-deps", f"--no-binary={name}", f"--dest={folder}"
        session.run("python", "-m", "pip", "download", *options, f"{name}==0.1.0")
        shutil.unpack_archive(next(Path(folder).iterdir()), folder)
        yield f"{folder}/strands_token_telemetry-0.1.0"


@nox.session
def lint(session):
    """Check the style of the code, and which module imports which."""
    prepare(session, "--group=lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": "src"})


@nox.session
def types(session):
    """Check the types of the package, and of code that uses it."""
    prepare(session, "--group=types", "--editable=.")
    session.run("mypy")


@nox.session
def quickstart(session):
    """Run the README's example, which needs no credentials."""
    prepare(session, "strands-agents", ".")
    session.run("python", "docs/examples/quickstart.py")


@nox.session
def tests(session):
    """Run the tests with the newest Strands."""
    prepare(session, "--group=tests", "--editable=.[dev]")
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session):
    """Run the tests again; they must run every line and every branch of the package."""
    prepare(session, "--group=coverage", "--editable=.[dev]")
    with tempfile.TemporaryDirectory() as folder:
        session.env["COVERAGE_FILE"] = f"{folder}/data"  # each process adds a file of its own
        session.run("coverage", "run", "-m", "pytest")
        session.run("coverage", "combine", "--quiet")
        session.run("coverage", "report")


@nox.session
def build(session):
    """Build the sdist and the wheel into dist/, twice, with the same bytes."""
    prepare(session, "--require-hashes", "--requirement=.ci/build-requirements.txt")
    session.env["SOURCE_DATE_EPOCH"] = None  # hatchling has a fixed date of its own
    command = ["python", "-m", "build", "--no-isolation"]
    shutil.rmtree("dist", ignore_errors=True)
    session.run(*command, "--outdir=dist")
    with tempfile.TemporaryDirectory() as again:
        # With these two options the wheel is built from the tree, not from the sdist.
        session.run(*command, "--sdist", "--wheel", f"--outdir={again}", silent=True)
        for path in sorted(Path("dist").iterdir()):
            if not filecmp.cmp(path, Path(again, path.name), shallow=False):
                session.error(f"The second build of {path.name} has other bytes")
            session.log(f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()} {path.name}")


@nox.session(requires=["build"])
def dist(session):
    """Check that the files in dist/ are complete, and that PyPI will accept them."""
    prepare(session, "--group=dist")
    wheel = built(".whl")
    session.run("validate-pyproject", "pyproject.toml")
    session.run("twine", "check", "--strict", wheel, built(".tar.gz"))
    session.run("check-wheel-contents", wheel)
    sources = {path.name for path in Path("src/strands_token_telemetry").iterdir() if path.is_file()}
    expected = sources | {"llms.txt", "LICENSE", "METADATA", "RECORD", "WHEEL"}
    found = {Path(name).name for name in zipfile.ZipFile(wheel).namelist()}
    if found != expected:
        session.error(f"The wheel should have {sorted(expected)}, but it has {sorted(found)}")


@nox.session(requires=["build"], reuse_venv=False)
def sdist(session):
    """Run the tests from the sdist in dist/."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(built(".tar.gz"), folder)
        (unpacked,) = Path(folder).iterdir()
        prepare(session, f"{unpacked}[dev]")
        with session.chdir(unpacked):
            session.run("pytest")


@nox.session(requires=["build"], reuse_venv=False)
@nox.parametrize("release", [*RELEASES, *UNPINNED], ids=[*RELEASES, *UNPINNED])
def strands(session, release):
    """Run the tests on the wheel in dist/ and a release of Strands."""
    prepare(session, UNPINNED.get(release, f"strands-agents=={release}"), f"{built('.whl')}[dev]")
    session.run("pytest")


@nox.session(requires=["build"], reuse_venv=False)
def compatibility(session):
    """Run the tests of 0.1.0 on the wheel in dist/."""
    prepare(session, "strands-agents", "pytest", built(".whl"))
    with earlier_version(session) as folder:
        # Deselected: the test that compares the version with 0.1.0.
        session.run("pytest", f"{folder}/tests", "--deselect=tests/test_init.py::test_version")


@nox.session
def providers(session):
    """Run the tests that use the clients of the providers."""
    # The group "tests" has cfn-lint, which reads the template whose spend they check.
    prepare(session, "--group=providers", "--group=tests", "--editable=.[dev]")
    session.run("pytest", "tests/test_providers.py")


@nox.session(allow_parallel=False)
def hosts(session):
    """Run the tests in real hosts. They run alone, because they wait for programs to start."""
    prepare(session, "--group=hosts", "--editable=.[dev]")
    session.run("pytest", "tests/test_hosts.py")


@nox.session
def workflows(session):
    """Check the files in .github, and that CI tests the same releases of Strands."""
    prepare(session, "--group=workflows")
    files = sorted(map(str, Path(".github/workflows").glob("*.yml")))
    tested = set(re.findall(r"strands\((.+?)\)", Path(".github/workflows/ci.yml").read_text()))
    if tested != {*RELEASES, *UNPINNED}:
        session.error(f"ci.yml tests the releases {sorted(tested)}")
    session.run("check-jsonschema", "--builtin-schema=vendor.github-workflows", *files)
    session.run("check-jsonschema", "--builtin-schema=vendor.dependabot", ".github/dependabot.yml")
    session.run("zizmor", "--offline", "--persona=pedantic", ".github")


@nox.session
def search(session):
    """Look longer, and at random, for input that breaks a promise. CI does it weekly."""
    prepare(session, "--editable=.[dev]")
    files = sorted(map(str, Path("tests").glob("*_search.py")))
    session.run("pytest", *files, env={"HYPOTHESIS_PROFILE": "thorough"})


@nox.session
def benchmark(session):
    """Measure what the hook costs, beside 0.1.0."""
    prepare(session, "strands-agents", "pytest", "--editable=.")
    with earlier_version(session) as folder:
        session.run("python", "-B", "tests/benchmark.py", f"{folder}/src")


@nox.session(venv_backend="none")
def tag(session):
    """Compare the tag of a release with the version: `.ci/run tag -- v1.2.3`."""
    source = (ROOT / "src/strands_token_telemetry/__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)[1]
    if session.posargs != [f"v{version}"]:
        session.error(f"The version is {version}, but the tag is {' '.join(session.posargs)}")
