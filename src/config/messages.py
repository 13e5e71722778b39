"""Messages of one line for the errors that a user can mend: this project's, and Hydra's in a shorter form."""

import difflib
import errno
import logging
import re
import shlex
import sys

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from src.config.flat import flatten, to_dict
from src.config.resolvers import CONF, choices_of
from src.config.words import shell_word
from src.errors import UserError, shortened

# Errors of the operating system that a user can mend.
REFUSALS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR,
    errno.EISDIR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ELOOP,
}  # fmt: skip
FULL = "free some space or inodes there, or choose another folder (runs=, out=, output=)"
MOST = 8  # names in a message; a dataset's or network's choices may be a hundred
# Also those that change the direction of writing, so that a name would be shown as another.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Writes control characters as escapes: a path or a class name must not command the terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


class PlainFormatter(logging.Formatter):
    """The format of all log lines on the terminal: names of users are printed, not interpreted."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def user_message(error: BaseException, config_name: str) -> str | None:
    """Returns one line for an error that the user can mend; None for a bug."""
    chain = [error]
    while (link := chain[-1].__cause__ or chain[-1].__context__) is not None and link not in chain:
        chain.append(link)
    for link in chain:
        if isinstance(link, UserError):
            return " ".join(str(link).split())
    if (line := _refusal(error)) is not None:
        return line
    if any(isinstance(link, OverrideParseException) for link in chain):
        return _unparsed(next(link.override for link in chain if isinstance(link, OverrideParseException)))
    is_hydras = isinstance(error, (HydraException, OmegaConfBaseException)) or "Config group override" in str(error)
    if is_hydras and (line := _wrong_choice()) is not None:
        return line
    if isinstance(error, ConfigAttributeError) and GlobalHydra.instance().is_initialized():  # within the command
        return None  # a key that this program asks for and the configuration has not: no user wrote it
    if type(error).__name__ == "MisconfigurationException":  # of Lightning, which must not be imported for this
        return f"trainer: {' '.join(str(error).split())}; give other values of trainer.*, such as trainer=cpu"
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return " ".join(_with_nearest(" ".join(str(link) for link in chain[:2]), config_name).split())
    return None


def _refusal(error: BaseException) -> str | None:
    """Describes an error of the file system that is not of this program's making; None for others."""
    links: list[BaseException] = [error]
    while (cause := links[-1].__cause__) is not None and cause not in links:
        links.append(cause)
    for link in links:
        if isinstance(link, OSError) and link.errno in REFUSALS:
            full = link.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = FULL if full else "mend its permissions or its place, or choose another folder (runs=, out=)"
            return f"{link.filename or 'a file could not be written'}: {link.strerror}; {remedy}"
        if isinstance(link, RuntimeError) and (killed := re.search(r"DataLoader worker .*signal: (\w+)", str(link))):
            # torch's handler raises this wherever the main process stands.
            return (
                f"a data process was killed ({killed.group(1)}), perhaps for memory; a lower data.num_workers or "
                "data.batch_size needs less"
            )
        if isinstance(link, RuntimeError) and "PytorchStreamWriter failed writing file" in str(link):
            return f"a checkpoint could not be written: the disk is full or refuses; {FULL}"
    return None


def _unparsed(word: str) -> str:
    """Says how to quote a word that Hydra's grammar does not take."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word}: is no setting; give key=value"
    if value[:1] in ("[", "{"):
        return f"{word}: cannot be parsed; quote each text within [] or {{}}, and the whole word: '{key}=[\"a=b\"]'"
    return (
        f"{word}: cannot be parsed; a path or a text is quoted twice, for Hydra and the shell: {shell_word(key, value)}"
    )


def _wrong_choice() -> str | None:
    """Describes a choice of a group on the command line that is no name: a number, null, a list, nothing, or `~`."""
    for word in sys.argv[1:]:
        key, _, value = word.partition("=")
        group = key.lstrip("+~").partition("@")[0]
        is_name = re.fullmatch(r"[A-Za-z_'\"(][^\[\]{}]*|\d\w*[A-Za-z_]\w*|.*,.*", value) and value != "null"
        if choices_of(group) and (key.startswith("~") or not is_name or value.startswith("[")):
            if group == "experiment" and value == "null":
                continue
            allowed = shortened(sorted(choices_of(group)), MOST)
            return f"{word}: {group} takes the name of one of its choices: {allowed}"
    return None


def unknown_choice(group: str, given: str, options: set[str]) -> str:
    """Describes a choice that a group does not have."""
    return f"{group}={given} is unknown; {_nearest(given, options)}"


def _with_nearest(message: str, config_name: str) -> str:
    """Shortens a message of Hydra's about an unknown group, choice or key, and adds the nearest names."""
    if found := re.search(r"Could not find '(hydra/\w+|[^/']+)/([^']*)'", message):
        group, given = found.groups()
        options = set(re.findall(r"\t(\S+)", message.partition("Config search path")[0]))
        options = {name for name in options if not name.startswith("_")}
        own = choices_of(group)
        return unknown_choice(group, given, own | options if group.startswith("hydra/") else own or options)
    if found := re.search(r"Ambiguous value for argument '(.*?)'\s+1\. ", message, re.DOTALL):
        key, _, value = found.group(1).partition("=")
        return (
            f"{found.group(1)}: has commas: -m sweeps over such values; for one text or path, {shell_word(key, value)}"
        )
    if found := re.match(r"Sweep parameters '(.*)' requires --multirun", message):
        word = found.group(1)
        return f"{word}: several values need -m, which runs the command for each: -m {shlex.quote(word)}"
    if found := re.match(r"Missing mandatory value: (\S+)", message):
        return f"{found.group(1)} is not set; give {found.group(1)}=... on the command line"
    if found := re.match(r"Interpolation key '(.+?)' not found", message):
        return (
            f"${{{found.group(1)}}} refers to a key that is not there; give one of --help, or, for the letters "
            f"themselves, a backslash before the $"
        )
    if found := re.search(r"(?s)Error in call to target '([\w.]+)'.*unexpected keyword argument '(\w+)'", message):
        return f"{found.group(1)} takes no {found.group(2)}; leave out the word of the command line that adds it"
    if found := re.search(r"Error (?:locating target|loading) '(.+?)'.*?full_key: (\S+)", message, re.DOTALL):
        target, key = found.groups()
        return f"{key}._target_={target}: no such class; give one as it is imported, such as package.module.Class"
    if found := re.match(r"(?:Could not override|Key) '(.+?)'", message):
        key = found.group(1)
        return f"{key} is not a key of this configuration; {_nearest(key, _keys(config_name))}; --help lists all"
    return message


def _keys(config_name: str) -> set[str]:
    """Returns the keys of a command's configuration, with the groups that the command line chooses."""
    words = [word.split(",")[0] for word in sys.argv[1:] if (CONF / word.partition("=")[0]).is_dir()]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            cfg = hydra.compose(config_name, words)
        except HydraException:  # a group that this command does not have
            cfg = hydra.compose(config_name)
    return {*flatten(to_dict(cfg)), *map(str, cfg)}


def _nearest(given: str, options: set[str]) -> str:
    names = sorted(options)
    near = difflib.get_close_matches(given, names, 3, cutoff=0.5)
    names = [name for name in names if "." not in name] or names  # of keys, the groups
    if "/" in given or any(name.startswith(f"{given}/") for name in names):  # of recipes, those of its folder
        names = [name for name in names if name.startswith(f"{given.partition('/')[0]}/")] or names
    return f"the nearest are {', '.join(near)}" if near else f"allowed are {shortened(names, MOST)}"
