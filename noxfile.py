"""The one entrance to every check: ``nox`` runs all of them, ``nox -l`` lists them, ``nox -s tests`` runs one.

Each session installs what it needs from the project's own files (extras and dependency groups of pyproject.toml),
with uv where nox finds it (``pip install 'nox[uv]'``), else with pip. Arguments after ``--`` go to the tool:
``nox -s tests -- -k freshness``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"  # eleven environments: 3 s each with uv, a minute with pip
nox.options.error_on_missing_interpreters = False

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
"""Every Python that this project is for; of those found on the machine the oldest and the newest are tested."""

INSTALL_LIMIT_SECONDS = 120
"""``pip install wif[all]`` into an empty environment: a resolver that backtracks without end is seen here first."""

IMAGE_EXTRAS = ("publish", "serve", "gcp")
"""What the image of deploy/Dockerfile can do: publish, serve, and use Google's standard credentials."""

AZURITE_VERSION = "3.37.0"
"""Azure's own storage emulator, for the tests of that target."""

CLIENTS = Path("tests/data/sidecar-clients")
"""Other people's clients that the sidecar's tests run: Python's in text files, Node's in package.json."""

PURE = "wif/core/*,wif/clouds/*,wif/trust/*,wif/admission/*,wif/config/*,wif/errors.py"
"""The half without I/O; its branches are covered whole."""


def _interpreter(version: str) -> str | None:
    """A working ``pythonX.Y``. A name on PATH may be a shim that only says that this version is not selected."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version == here:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    on_path = (Path(folder) / f"python{version}" for folder in os.environ.get("PATH", "").split(os.pathsep))
    for candidate in [*on_path, *sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)]:
        try:
            answer = subprocess.run(
                [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return str(candidate)
    return None


FOUND = {version: path for version in VERSIONS if (path := _interpreter(version))}
MISSING = [version for version in VERSIONS if version not in FOUND]
PYTHONS = list(FOUND)
ENDS = list(dict.fromkeys([PYTHONS[0], PYTHONS[-1]]))
"""What differs between Pythons shows at the oldest or the newest; ``nox -s tests`` also runs on those between."""

nox.options.sessions = ["lint", "types", "contracts", *(f"tests-{version}" for version in ENDS)]
nox.options.sessions += ["e2e", "aiobotocore", "docs", "build"]

# nox looks a version up on PATH, where a shim may stand first: put the interpreters that work before it.
os.environ["PATH"] = os.pathsep.join(
    [*(str(Path(path).parent) for version, path in FOUND.items() if path != sys.executable), os.environ["PATH"]]
)


def _install(session: nox.Session, *groups: str, extras: str = "all") -> None:
    """The project, editable, with extras and dependency groups, in one resolution."""
    session.install("-q", "-e", f".[{extras}]" if extras else ".", *_group_requirements(groups))


def _group_requirements(groups: tuple[str, ...]) -> list[str]:
    project = nox.project.load_toml("pyproject.toml")
    return list(nox.project.dependency_groups(project, *groups))


def _pytest(session: nox.Session, *arguments: str) -> None:
    session.run("python", "-m", "pytest", *arguments, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    session.install("-q", *_group_requirements(("lint",)))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """``mypy --strict`` on the package, the tests and the examples."""
    _install(session, "types", "test", "contracts", "docs")
    session.run("mypy", *filter(_has_python, ("wif", "tests", "examples", "docs", "noxfile.py")))


def _has_python(name: str) -> bool:
    path = Path(name)
    return path.is_file() or any(path.rglob("*.py"))


@nox.session
def contracts(session: nox.Session) -> None:
    """The import contracts, and for each of them an import that breaks it."""
    _install(session, "contracts", "test", extras="")
    session.run("lint-imports", "--no-cache")
    _pytest(session, "tests/contracts", "-q", "-n", "2")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Unit tests without a network, on every Python found; on the oldest every branch of the pure half is covered."""
    _install(session, "test")
    if session.python != PYTHONS[0]:  # branches do not differ by version, and what hypothesis finds hardly does
        _pytest(session, "tests/unit", "-n", "2", "--hypothesis-profile=quick")
        return
    session.env["COVERAGE_FILE"] = str(Path(session.create_tmp()) / "coverage")
    _pytest(session, "tests/unit", "-n", "2", "--cov=wif", "--cov-branch", "--cov-report=")
    if not session.posargs:
        session.run("coverage", "report", "--fail-under=100", "--skip-covered", "-m", f"--include={PURE}")


@nox.session(python=ENDS)
def e2e(session: nox.Session) -> None:
    """Real SDKs and servers on loopback, a real API server of KUBEBUILDER_ASSETS; on the oldest and newest Python."""
    _install(session, "test")
    session.env["WIF_AZURITE"] = _azurite(session)
    session.env["WIF_CLIENTS"] = _clients(session)
    # four workers on two cores: these tests wait for servers more than they compute
    chosen = [] if session.python == PYTHONS[0] else ["-m", "not one_python"]
    _pytest(session, "tests/integration", "-n", "4", "--dist", "loadgroup", "--durations=20", *chosen)


def _azurite(session: nox.Session) -> str:
    """The program of Azure's storage emulator, from npm; where that does not work, its tests say what is missing."""
    folder = Path(".nox") / f"azurite-{AZURITE_VERSION}"
    program = folder / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    npm = shutil.which("npm")
    if not program.exists() and npm is not None:
        command = [npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(folder)]
        done = subprocess.run([*command, f"azurite@{AZURITE_VERSION}"], check=False, timeout=INSTALL_LIMIT_SECONDS * 3)
        if done.returncode:
            session.warn(f"npm could not install azurite@{AZURITE_VERSION}: its tests are skipped")
    return str(program.resolve()) if program.exists() else ""


def _clients(session: nox.Session) -> str:
    """Where the clients are, each in an environment of its own; the tests of one that did not install say so."""
    described = b"".join(file.read_bytes() for file in sorted(CLIENTS.iterdir()))
    folder = (Path(".nox") / f"clients-{hashlib.sha256(described).hexdigest()[:12]}").resolve()
    npm, uv = shutil.which("npm"), shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    for file in sorted(CLIENTS.glob("*.txt")):
        place = folder / file.stem
        if uv is not None:
            made = [
                [uv, "venv", "-q", "-p", sys.executable, str(place)],
                [uv, "pip", "install", "-q", "-p", str(place)],
            ]
        else:
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            made = [[sys.executable, "-m", "venv", str(place)], pip]
        _install_client(session, place, made[0], [*made[1], "-r", str(file)])
    if npm is not None:
        place = folder / "node"
        copied = [sys.executable, "-c", f"import shutil; shutil.copytree({str(CLIENTS)!r}, {str(place)!r})"]
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        _install_client(session, place, copied, [npm, "install", *quiet, "--prefix", str(place)])
    return str(folder)


def _install_client(session: nox.Session, place: Path, *commands: list[str]) -> None:
    if (place / ".complete").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    for command in commands:
        if subprocess.run(command, check=False, timeout=INSTALL_LIMIT_SECONDS * 3).returncode:
            session.warn(f"{place.name}: {command[0]} failed: its tests are skipped")
            shutil.rmtree(place, ignore_errors=True)
            return
    (place / ".complete").touch()


@nox.session(python=PYTHONS[0])
def soak(session: nox.Session) -> None:
    """Half an hour of the sidecar under everything that goes wrong (``e2e`` has two minutes of it); not by default."""
    _install(session, "test")
    session.env["WIF_SOAK_SECONDS"] = os.environ.get("WIF_SOAK_SECONDS", "1800")
    _pytest(session, "tests/integration/test_sidecar_soak.py", "-s")


@nox.session
def aiobotocore(session: nox.Session) -> None:
    """The aiobotocore session: an environment of its own, because it pins another botocore."""
    _install(session, "test", extras="aiobotocore,emulator,cel")
    _pytest(session, "tests/aiobotocore")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site, every warning an error, then run its snippets and the README's."""
    _install(session, "docs", "test")
    session.run("sphinx-build", "-q", "-E", "-W", "--keep-going", "-b", "html", "docs", "site")
    _pytest(session, "tests/docs", "-q")


@nox.session
def bench(session: nox.Session) -> None:
    """The measurements (``-- --json FILE`` writes the rows); not in the default list: they need a quiet machine."""
    _install(session, "test")
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist; install the wheel into empty environments: ``all``, and what installs on musl."""
    session.install("-q", *_group_requirements(("build",)))
    target = Path(session.create_tmp()) / "dist"
    shutil.rmtree(target, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(target), silent=True)
    wheel = next(target.glob("*.whl"))
    session.run("twine", "check", "--strict", *map(str, sorted(target.iterdir())))
    every = _extras_of_all()
    for extras in ("all", ",".join(name for name in every if name != "cel")):
        _install_empty(session, wheel, extras)
    _install_locked(session, wheel)


def _install_locked(session: nox.Session, wheel: Path) -> None:
    """What the image's recipe does, without the image: only packages whose hashes are locked, then the wheel alone."""
    python = _empty_environment(session)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    locked = ["--require-hashes", "--only-binary", ":all:", "-r"]
    session.run(*pip, *locked, "deploy/requirements-build.txt", external=True)
    session.run(*pip, *locked, "deploy/requirements.txt", external=True)
    session.run(*pip, "--no-deps", str(wheel), external=True)
    session.run(str(python), "-m", "pip", "check", external=True, silent=True)
    for program in ("wif", "publish-oidc-discovery"):
        session.run(str(python.with_name(program)), "--version", external=True)
    session.run(str(python.with_name("wif")), "issuer", "publish", "--help", external=True, silent=True)


@nox.session
def lock(session: nox.Session) -> None:
    """Renew the packages of the image: versions and hashes for every platform, from the project's own extras."""
    session.install("-q", "uv>=0.9")
    common = ["--universal", "--python-version", VERSIONS[0], "--generate-hashes"]
    common += ["--no-emit-index-url", "--no-annotate"]
    extras = [word for extra in IMAGE_EXTRAS for word in ("--extra", extra)]
    compile_ = ["uv", "pip", "compile", "--upgrade", "--quiet", "--no-header", *common]
    session.run(*compile_, *extras, "-o", "deploy/requirements.txt", "pyproject.toml")
    build = Path(session.create_tmp()) / "build.in"
    build.write_text("\n".join(nox.project.load_toml("pyproject.toml")["build-system"]["requires"]))
    session.run(*compile_, "-o", "deploy/requirements-build.txt", str(build))


def _extras_of_all() -> list[str]:
    [line] = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]["all"]
    return str(line).removeprefix("wif[").removesuffix("]").split(",")


def _empty_environment(session: nox.Session) -> Path:
    folder = Path(session.create_tmp()) / "empty"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "venv", str(folder), silent=True)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def _install_empty(session: nox.Session, wheel: Path, extras: str) -> None:
    python = _empty_environment(session)
    began = time.monotonic()
    try:
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[{extras}]"],
            check=True,
            timeout=INSTALL_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        session.error(f"wif[{extras}] did not install within {INSTALL_LIMIT_SECONDS} s: do versions conflict?")
    except subprocess.CalledProcessError:
        session.error(f"wif[{extras}] does not install into an empty environment")
    session.log(f"wif[{extras}] installed in {time.monotonic() - began:.0f} s")
    session.run(str(python), "-I", "tests/installed.py", external=True)
    session.run(str(python), "-m", "pip", "check", external=True, silent=True)
    if extras == "all":
        session.run(str(python.with_name("wif")), "demo", "--json", external=True)


if MISSING:
    sys.stderr.write(
        f"nox: {len(FOUND)} of {len(VERSIONS)} Pythons are here ({', '.join(FOUND)}); "
        f"not installed here: {', '.join(MISSING)}\n"
    )
