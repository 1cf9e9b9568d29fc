"""`docs/reference/cli.md`, from the application itself."""

from __future__ import annotations

from typing import Any

from nightlog.reference.markdown import NOTE, default_words, markdown_table, type_words

EXAMPLE = "Example: "
HEAD = f"""# The command line

{NOTE}

`nightlog COMMAND --help` prints the same on the terminal. `nightlog --install-completion` adds the names to the shell. Rows are printed as
a table, or with `--format json` and `--format csv` as data. In CSV an apostrophe stands before text that a spreadsheet would take for a
formula. Options that are not given come from environment variables ([settings](settings.md)).

## Exit codes

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | `replay`: the verdict is different now; `doctor`: something is an error |
| 2 | wrong usage |
| 4 | not there: an unknown system or session, a night that was never run or had no input |
| 10 | a quality gate held a system back; `nightlog approve` publishes it |
| 20 | transient: try again |
| 30 | configuration or permanent error; input that was due is missing |
| 40 | incomplete: published, but nobody judged some sessions |

One system that fails never stops the others; a run has the code of its worst outcome. Commands that read a night (`anomalies`, `signals`,
`compare`, `report`, `show`, `questions`) end with the night's code. Rows go to standard output, messages about the night to standard error.
[Reliability](../reliability.md) lists every situation with its exit code.

"""


def commands_page() -> str:
    """The page, as Markdown."""
    commands = registered()
    listed = markdown_table(
        ("command", "what it does"), [(f"[`{name}`](#nightlog-{name})", first_line(command.help)) for name, command in commands.items()]
    )
    return HEAD + listed + "\n".join(section(name, command) for name, command in commands.items())


def registered() -> dict[str, Any]:
    """Name → command, in the order of `nightlog --help`."""
    from typer.main import get_command

    import nightlog.cli  # noqa: F401  # registers the commands
    from nightlog.cli.app import app

    group: Any = get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def first_line(text: str) -> str:
    """The first line of a help text."""
    return text.strip().splitlines()[0]


def examples(text: str) -> list[str]:
    """The example command lines in a help text.

    >>> examples("Do it.\\n\\nExample: nightlog do\\n\\nExample: nightlog do --fast")
    ['nightlog do', 'nightlog do --fast']
    """
    return [line.strip().removeprefix(EXAMPLE) for line in text.splitlines() if line.strip().startswith(EXAMPLE)]


def section(name: str, command: Any) -> str:
    """One command: what it does, examples, arguments and options."""
    lines = [line for line in command.help.strip().splitlines() if not line.strip().startswith(EXAMPLE)]
    about = "\n".join(lines).strip()
    while "\n\n\n" in about:
        about = about.replace("\n\n\n", "\n\n")
    shown = "\n".join(examples(command.help))
    rows = [parameter(each) for each in command.params]
    table = markdown_table(("argument or option", "value", "default", "meaning"), rows) if rows else ""
    return f"## nightlog {name}\n\n{about}\n\n```\n{shown}\n```\n\n{table}"


def parameter(found: Any) -> tuple[str, str, str, str]:
    """A row: how it is written, what it takes, its default, its meaning."""
    is_option = found.opts[0].startswith("-")
    names = ", ".join(f"`{name}`" for name in found.opts) if is_option else f"`{found.name.upper()}`"
    value = "" if getattr(found, "is_flag", False) else type_words(found.type_descriptor.annotation)
    default = "needed" if found.required else "" if getattr(found, "is_flag", False) else default_words(found.default)
    return names, value, default, found.help or ""
