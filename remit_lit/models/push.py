"""A model's directory to a repository of Hugging Face's hub."""

from pathlib import Path

from huggingface_hub import HfApi, get_token, is_offline_mode
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from remit_lit.errors import ConfigError


def check_push(repository: str) -> None:
    """Refuse what cannot be pushed, before a model is loaded; no network is used.

    Raises:
        ConfigError: the name is none of a repository, there is no token, or HF_HUB_OFFLINE is set.
    """
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(f"push_to_hub: got {repository!r}; give owner/name ({error})") from error
    if "/" not in repository:
        raise ConfigError(f"push_to_hub: got {repository!r} without an owner; give owner/{repository}")
    if is_offline_mode():
        raise ConfigError("push_to_hub: HF_HUB_OFFLINE is set, so nothing is sent to a hub; unset it to push")
    if get_token() is None:
        raise ConfigError(
            "push_to_hub: there is no token; log in by `hf auth login`, or set HF_TOKEN to one that may write"
        )


def push(directory: Path, repository: str, private: bool) -> None:
    """Upload all files of a directory as one commit; the repository is made where it is not there.

    Raises:
        ConfigError: the hub cannot be reached, or refuses.
    """
    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=directory, commit_message="Export of remit_lit")
    except Exception as error:  # each version of the library has errors of its own for a host that is not there
        raise ConfigError(
            f"push_to_hub: {repository} was not written ({error}); the model is in {directory}, and "
            f"`hf upload {repository} {directory}` pushes it"
        ) from error
