"""`rs-cio completion`: what a shell reads once to complete commands, options and the names of feeds. By click's own means."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command(short_help="Complete commands and feeds in your shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print what SHELL has to read for the tab key to complete commands, options and the contract's feeds.

    \b
    Example: eval "$(rs-cio completion bash)"                                   in ~/.bashrc
    Example: eval "$(rs-cio completion zsh)"                                    in ~/.zshrc
    Example: rs-cio completion fish > ~/.config/fish/completions/rs-cio.fish
    """
    found = get_completion_class(shell)
    command = click.get_current_context().find_root().command
    assert found is not None  # noqa: S101 - click has these three
    click.echo(found(command, {}, "rs-cio", "_RS_CIO_COMPLETE").source())
