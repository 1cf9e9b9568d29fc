"""Build the Dockerfile's images without a container engine: each step is executed in a Debian root made by debootstrap.

    python tests/container/dockerfile.py [--folder build/container]

`make container-test` calls it as root. It knows the instructions that the Dockerfile uses and refuses others. A stage is a layer of an
overlay file system on the stage that it begins with; processes and mounts live in namespaces of their own. At the end, each target's
ENTRYPOINT and CMD are run, as its USER. Not tried by this: the base image of a registry, limits and networks of an engine.

FRESH_MIRROR, FRESH_CA and FRESH_JAVA_CA are those of tests/fresh/fresh.sh.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CA, JAVA_CA = "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/java/cacerts"
MIRROR = "http://deb.debian.org/debian"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """A stage of the Dockerfile: its layers, the uppermost first, and its settings."""

    name: str
    layers: list[Path]
    env: dict[str, str] = field(default_factory=lambda: {"PATH": PATH})
    user: str = "root"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile and their arguments, without comments; continued lines are joined.

    >>> instructions("# no\\nFROM a AS b\\nRUN x && \\\\\\n  y\\n")
    [('FROM', 'a AS b'), ('RUN', 'x && y')]
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def expanded(text: str, env: dict[str, str]) -> str:
    """Return a text with $NAME and ${NAME} replaced.

    >>> expanded("$A/bin:${B}", {"A": "/x", "B": "y"})
    '/x/bin:y'
    """
    return re.sub(r"\$(\w+)|\$\{(\w+)\}", lambda found: env.get(found[1] or found[2], ""), text)


class Builder:
    """Executes the stages of a Dockerfile in a folder."""

    def __init__(self, context: Path, folder: Path):
        self.context, self.folder = context, folder
        self.stages: dict[str, Stage] = {}
        self.merged = folder / "merged"
        self.merged.mkdir(parents=True)

    def debian(self) -> Path:
        """Make the bare Debian 12 that stands for the base image."""
        root = self.folder / "debian"
        run(["debootstrap", "--variant=minbase", "bookworm", str(root), os.environ.get("FRESH_MIRROR", MIRROR)])
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc") / name, root / "etc" / name)
        return root

    def build(self, text: str, targets: list[str]) -> None:
        """Execute the stages that the targets need. Raises: SystemExit for an instruction that is not known, or a step that fails."""
        blocks = stages_of(text)
        needed: set[str] = set()

        def need(name: str) -> None:
            if name in blocks and name not in needed:
                needed.add(name)
                need(blocks[name][0][1].split()[0])
                for _, rest in blocks[name]:
                    if found := re.match(r"--from=(\S+)", rest):
                        need(found[1])

        for target in targets:
            need(target)
        debian = self.debian()
        for name, steps in blocks.items():
            if name in needed:
                self.build_stage(name, steps, debian)

    def build_stage(self, name: str, steps: list[tuple[str, str]], debian: Path) -> None:
        """Execute the steps of a stage in a new layer."""
        parent = self.stages.get(steps[0][1].split()[0])
        layer = self.folder / name
        layer.mkdir()
        stage = Stage(name, [layer, debian])
        if parent is not None:
            stage = Stage(name, [layer, *parent.layers], dict(parent.env), parent.user, parent.folder, parent.entrypoint, parent.command)
        self.stages[name] = stage
        self.mount(stage)
        for word, rest in steps[1:]:
            started = time.monotonic()
            self.step(stage, word, rest)
            print(f"{name:14} {time.monotonic() - started:6.1f} s  {word} {rest[:100]}", flush=True)
        self.unmount()
        print(f"{name:14} layer of {megabytes(layer)} MB", flush=True)

    def step(self, stage: Stage, word: str, rest: str) -> None:
        """Execute one instruction."""
        if word == "RUN":
            self.trust()
            self.inside(stage, ["/bin/sh", "-c", rest])
        elif word == "ENV":
            for name, value in (each.split("=", 1) for each in shlex.split(rest)):
                stage.env[name] = expanded(value, stage.env)
        elif word == "COPY":
            self.copy(stage, rest.split())
        elif word == "WORKDIR":
            stage.folder = rest
            (self.merged / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif word == "USER":
            stage.user = rest
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        elif word == "CMD":
            stage.command = json.loads(rest)
        else:
            sys.exit(f"Dockerfile: {word} is not known here; known: RUN ENV COPY WORKDIR USER ENTRYPOINT CMD")

    def copy(self, stage: Stage, words: list[str]) -> None:
        """COPY from the context as root; folders keep their names' contents, and what .dockerignore leaves out is not copied."""
        if words[0].startswith("--from="):
            self.copy_from(stage, words[0].removeprefix("--from="), *words[1:])
            return
        *paths, to = words
        target = self.merged / f"{stage.folder}/{to}".lstrip("/")
        for path in paths:
            if (self.context / path).is_dir():
                shutil.copytree(self.context / path, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(self.context / path, target)

    def copy_from(self, stage: Stage, other: str, path: str, to: str) -> None:
        """COPY a folder of another stage, by hard links between the layers."""
        self.unmount()
        source = next(found for layer in self.stages[other].layers if (found := layer / path.lstrip("/")).exists())
        target = stage.layers[0] / to.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        run(["cp", "--archive", "--link", str(source), str(target)])
        self.mount(stage)

    def trust(self) -> None:
        """Give the root the certificates of the machine's network, if asked to."""
        for variable, place in (("FRESH_CA", CA), ("FRESH_JAVA_CA", JAVA_CA)):
            to = self.merged / place.lstrip("/")
            if os.environ.get(variable) and to.parent.is_dir():
                shutil.copy(os.environ[variable], to)

    def inside(self, stage: Stage, words: list[str]) -> str:
        """Run a command in the mounted stage, as its user in its folder. Returns the output. Raises: SystemExit if it fails."""
        env = dict(stage.env)
        if os.environ.get("FRESH_CA"):
            env |= {"SSL_CERT_FILE": CA, "PIP_CERT": CA}
        in_folder = ["sh", "-c", f"cd {shlex.quote(stage.folder)} && exec {shlex.join(words)}"]
        given = ["env", "-i", *(f"{name}={value}" for name, value in env.items())]
        return run(["chroot", f"--userspec={stage.user}:", str(self.merged), *given, *in_folder])

    def mount(self, stage: Stage) -> None:
        """Lay the layers of a stage over each other."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        lower = ":".join(map(str, stage.layers[1:]))
        run(["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower},upperdir={stage.layers[0]},workdir={work}", str(self.merged)])
        run(["mount", "-t", "proc", "proc", str(self.merged / "proc")])
        run(["mount", "--rbind", "/dev", str(self.merged / "dev")])
        run(["mount", "--make-rslave", str(self.merged / "dev")])

    def unmount(self) -> None:
        """Take the mounts of a stage away."""
        run(["umount", "-R", str(self.merged)])

    def start(self, name: str, words: list[str] | None = None) -> str:
        """Run a target's ENTRYPOINT with its CMD, or with other words, on a lake that all targets share. Returns the output."""
        stage, lake = self.stages[name], self.folder / "lake"
        self.mount(stage)
        if not lake.exists():
            lake.mkdir()
            shutil.copystat(self.merged / "lake", lake)
            owner = (self.merged / "lake").stat()
            os.chown(lake, owner.st_uid, owner.st_gid)
        run(["mount", "--bind", str(lake), str(self.merged / "lake")])
        stage.env["NIGHTLOG_LLM"] = "recorded"
        try:
            return self.inside(stage, stage.entrypoint + (stage.command if words is None else words))
        finally:
            self.unmount()


def stages_of(text: str) -> dict[str, list[tuple[str, str]]]:
    """Return the steps of each stage, FROM included, by the stage's name; ARG before the first FROM is left out."""
    blocks: dict[str, list[tuple[str, str]]] = {}
    steps: list[tuple[str, str]] = []
    for word, rest in instructions(text):
        if word == "FROM":
            steps = blocks.setdefault(rest.split()[2], [])
        elif not blocks:
            continue
        steps.append((word, rest))
    return blocks


def run(words: list[str]) -> str:
    """Run a program. Returns its output. Raises: SystemExit with the end of the output if it fails."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(words)}: exit {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def megabytes(folder: Path) -> int:
    """Return the size of a folder on disk."""
    return int(run(["du", "-sxm", str(folder)]).split()[0])


# Each target and commands for it, in this order: `read` reads the lake that `jobs` has written.
SMOKE: dict[str, list[list[str]]] = {
    "jobs": [["run", "--ds", "2026-03-04", "--systems", "dovecot"], ["doctor"]],
    "read": [["nights"], ["anomalies"]],
    "airflow": [
        ["db", "migrate"],
        ["dags", "reserialize"],
        ["dags", "test", "nightlog_nightly", "--conf", '{"ds": "2026-03-04", "systems": "dovecot"}'],
    ],
}


def main() -> None:
    """Build the targets and run each of them."""
    parser = argparse.ArgumentParser(description="Build the Dockerfile's images without a container engine.")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "container")
    given = parser.parse_args()
    if os.environ.get("NIGHTLOG_NAMESPACE") is None:
        own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", sys.executable, __file__, *sys.argv[1:]]
        sys.exit(subprocess.run(own, env=os.environ | {"NIGHTLOG_NAMESPACE": "1"}, check=False).returncode)
    shutil.rmtree(given.folder, ignore_errors=True)
    builder = Builder(ROOT, given.folder.resolve())
    builder.build((ROOT / "Dockerfile").read_text(encoding="utf-8"), list(SMOKE))
    for target, commands in SMOKE.items():
        for words in (None, *commands):
            print(f"\n{target}: {words or 'ENTRYPOINT and CMD'}\n{builder.start(target, words)[-1500:]}", flush=True)


if __name__ == "__main__":
    main()
