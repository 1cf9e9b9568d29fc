"""The machine: Python, Java, packages, Delta's JARs, memory, disk."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from nightlog.doctor import CheckResult, error, ok, warning
from nightlog.errors import ConfigError
from nightlog.spark import JARS, delta_jars

AREA = "machine"
JAVA = 17
READS_ONLY = "this installation reads lakes; to run nights: pip install 'nightlog[jobs]'"
SETUP = "run `make setup`"
GIB = 1 << 30
# Below the first a night is likely to end with a full disk; below the second it does.
LOW_DISK, NO_DISK = 5 * GIB, GIB // 2
BESIDE_THE_DRIVER = 2 * GIB  # Python workers, the small model, the sentence encoder


def python(version: tuple[int, ...], tested: tuple[int, int] = (3, 11), newest: tuple[int, int] = (3, 13)) -> CheckResult:
    """Check that Python is the version that everything is tested on, or a newer one on which it was tried."""
    found = ".".join(map(str, version[:3]))
    if version[:2] == tested:
        return ok(AREA, f"Python {found}", sys.prefix)
    wanted = f"Python {found}, expected {tested[0]}.{tested[1]}"
    if tested < version[:2] <= newest:
        return warning(AREA, wanted, sys.prefix, "take 3.11 for what is tested; docs/how-to/install.md has what was tried on newer ones")
    return error(AREA, wanted, sys.prefix, SETUP)


def java(version_text: str) -> CheckResult:
    """Check Java by the output of `java -version`.

    >>> java('openjdk version "17.0.15" 2025-04-15').what
    'Java 17.0.15'
    >>> java('java version "1.8.0_401"').what
    'Java 1.8.0_401, expected 17'
    """
    match = re.search(r'version "([^"]+)"', version_text)
    if match is None:
        return error(
            AREA, "no Java", "JAVA_HOME, PATH", "install Java 17 (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
        )
    major = int((re.match(r"(?:1\.)?(\d+)", match[1]) or ["0", "0"])[1])
    if major == JAVA:
        return ok(AREA, f"Java {match[1]}")
    grade = error if major < JAVA else warning
    return grade(AREA, f"Java {match[1]}, expected {JAVA}", "JAVA_HOME, PATH", "set JAVA_HOME to Java 17; no other is tested")


def ask_java(home: str | None) -> str:
    """Return the output of `java -version`, of the Java that Spark would start; empty if there is none."""
    program = shutil.which(str(Path(home, "bin", "java")) if home else "java")
    if program is None:
        return ""
    try:
        return subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ""


def packages(wanted: Iterable[str], version_of: Callable[[str], str] = metadata.version) -> Iterator[CheckResult]:
    """Check that the packages are there, in versions that were tested. Without any package of the extra `jobs` an installation only reads.

    Packages of other extras may be missing.

    Args: wanted: requirements, as in a package's metadata; version_of raises PackageNotFoundError.
    """
    requirements = list(map(Requirement, wanted))
    versions = {each.name: installed(each.name, version_of) for each in requirements}
    absent = {name for name, version in versions.items() if version is None}
    base = {each.name for each in requirements if extra_of(each) is None}
    jobs = {each.name for each in requirements if extra_of(each) == "jobs"}
    reads_only = bool(jobs) and jobs <= absent
    missing = sorted(absent & (base if reads_only else base | jobs))
    found = [(each, version) for each in requirements if (version := versions[each.name]) is not None]
    others = [f"{each.name} {version} instead of {each.specifier}" for each, version in found if version not in each.specifier]
    if missing:
        yield error(AREA, f"{len(missing)} packages are missing: {', '.join(missing)}", sys.prefix, SETUP)
    if others:
        yield warning(AREA, f"{len(others)} packages are not those that were tested: {', '.join(others)}", sys.prefix, SETUP)
    if not missing and not others:
        yield ok(AREA, f"{len(found)} packages in tested versions{f'; {READS_ONLY}' if reads_only else ''}", sys.prefix)


def extra_of(requirement: Requirement) -> str | None:
    """Return the extra that a requirement belongs to, None if it is always needed.

    >>> extra_of(Requirement('a>=1; extra == "jobs"')), extra_of(Requirement("a>=1"))
    ('jobs', None)
    """
    match = re.search(r'extra == "([^"]+)"', str(requirement.marker or ""))
    return match[1] if match else None


def installed(name: str, version_of: Callable[[str], str] = metadata.version) -> str | None:
    """Return the version of a package; None: it is not there."""
    try:
        return version_of(name)
    except metadata.PackageNotFoundError:
        return None


def requirements() -> list[str]:
    """Return the requirements of Nightlog's own installation, those of its extras included."""
    try:
        return list(metadata.requires("nightlog") or ())
    except metadata.PackageNotFoundError:
        return []


def reads_only() -> bool:
    """Return True if some of the packages that run nights are missing."""
    return any(installed(each.name) is None for each in map(Requirement, requirements()) if extra_of(each) in (None, "jobs"))


def jars() -> CheckResult:
    """Check that Delta's JARs are there."""
    try:
        return ok(AREA, f"{len(delta_jars().split(','))} JARs of Delta", str(JARS))
    except ConfigError:
        return error(AREA, "no JARs of Delta", str(JARS), "run `nightlog jars`")


def in_bytes(size: str) -> int:
    """Return the bytes of a size as Spark writes it.

    >>> in_bytes("4g") == 4 * GIB, in_bytes("512m") == GIB // 2, in_bytes("1024")
    (True, True, 1024)
    """
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", size.strip().lower())
    return int(match[1]) * 1024 ** " kmgt".index(match[2] or " ") if match else 0


def memory(total: int | None, driver: str) -> CheckResult:
    """Check that Spark's driver fits into memory, with room for the processes beside it. Args: total in bytes, None if unknown."""
    wanted = in_bytes(driver)
    if not wanted:
        return error(AREA, f"NIGHTLOG_DRIVER_MEMORY is `{driver}`, no size such as 4g", "settings", "correct it")
    if total is None:
        return ok(AREA, f"memory is not known here; the driver takes {driver}")
    found = f"{total / GIB:.1f} GiB of memory, {driver} of them for Spark's driver"
    if total < wanted + BESIDE_THE_DRIVER:
        return warning(AREA, found, "NIGHTLOG_DRIVER_MEMORY", "lower it, or give the machine more: 2 GiB are needed beside it")
    return ok(AREA, found)


def total_memory(meminfo: Path = Path("/proc/meminfo"), limit: Path = Path("/sys/fs/cgroup/memory.max")) -> int | None:
    """Return the bytes of memory that this process may use: the machine's, or its container's if that is less."""
    try:
        found = re.search(r"MemTotal:\s+(\d+) kB", meminfo.read_text())
        total = int(found[1]) * 1024 if found else None
    except OSError:
        return None
    try:
        most = limit.read_text().strip()
    except OSError:
        return total
    return min(total, int(most)) if total is not None and most.isdigit() else total


def disk(free: int, folder: str) -> CheckResult:
    """Check that there is room for another night. Args: free bytes."""
    found = f"{free / GIB:.1f} GiB free"
    if free < NO_DISK:
        return error(AREA, found, folder, "make room: run `nightlog maintain`, lower NIGHTLOG_BRONZE_DAYS, or move the lake")
    if free < LOW_DISK:
        return warning(AREA, found, folder, "make room soon: run `nightlog maintain`, or lower NIGHTLOG_BRONZE_DAYS")
    return ok(AREA, found, folder)
