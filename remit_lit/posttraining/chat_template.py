"""Chat templates: programs of a Jinja file or of a tokenizer, which are tried within limits before they are used."""

import multiprocessing
import resource
import signal
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from jinja2 import TemplateError, TemplateSyntaxError
from transformers.utils.chat_template_utils import render_jinja_template

from remit_lit.errors import ConfigError
from remit_lit.files import near_path

_WALL_SECONDS = 600.0  # on a machine that is busy with other work
_MEMORY_BYTES = 256 * 2**20
_MOST_CHARACTERS = 2**20
_SAMPLE = [{"role": "user", "content": "1 + 1 = ?"}, {"role": "assistant", "content": "2"}]


def read_template(path: str) -> str:
    """The template in a file.

    Raises:
        ConfigError: there is no such file.
    """
    if not Path(path).is_file():
        raise ConfigError(f"chat_template: no file {path!r}; {near_path(path)}give a Jinja template file")
    return Path(path).read_text()


def check_template(templates: str | Mapping[str, str], origin: str, cpu_seconds: int = 5) -> None:
    """Refuse a template that is no Jinja, or that takes much time or memory for a short conversation.

    It is rendered in transformers' sandbox, which keeps it from files and from this program, in a process of its own
    with limits of the kernel: some seconds of CPU, 256 MiB, a million characters. A template that refuses the
    conversation, as some do without a system message, is not judged.

    Args:
        templates: the template, or several by name.
        origin: where it is from, for messages.
        cpu_seconds: that it may take.

    Raises:
        ConfigError: the template is refused.
    """
    for template in [templates] if isinstance(templates, str) else templates.values():
        receiver, sender = multiprocessing.Pipe(duplex=False)
        # Forked: it begins at once, with everything imported, and runs nothing but Python.
        context = multiprocessing.get_context("fork")
        process = context.Process(target=_render, args=(template, cpu_seconds, sender), daemon=True)
        process.start()
        sender.close()
        try:
            fault = receiver.recv() if receiver.poll(_WALL_SECONDS) else f"takes more than {_WALL_SECONDS:g} s"
        except EOFError:  # the kernel ended it
            process.join()
            over_time = process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL)
            fault = f"takes more than {cpu_seconds} s" if over_time else f"ended its process ({process.exitcode})"
        finally:
            process.kill()
            process.join()
        if fault:
            raise ConfigError(f"chat_template: {origin} {fault}; give one that renders a conversation only")


def _render(template: str, cpu_seconds: int, result: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))
    most = psutil.Process().memory_info().vms + _MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    result.send(_fault(template))


def _fault(template: str) -> str:
    try:
        rendered: Any = render_jinja_template([_SAMPLE], chat_template=template)
    except TemplateSyntaxError as error:
        return f"is no Jinja template (line {error.lineno}: {error.message})"
    except MemoryError:
        return f"takes more than {_MEMORY_BYTES // 2**20} MiB for a short conversation"
    except OverflowError as error:
        return f"counts too far ({error})"
    except (TemplateError, TypeError, ValueError, LookupError):  # what this conversation lacks
        return ""
    characters = len(rendered[0][0])
    return f"makes {characters:,} characters of a short conversation" if characters > _MOST_CHARACTERS else ""
