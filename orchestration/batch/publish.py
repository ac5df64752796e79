"""A result appears, all at once, and what was there before goes after that.

On this machine the folder `result` of the work folder gets the output's name; an old result is
exchanged with it in one step (two, where the kernel or the file system has no exchange), and goes
with the work folder. In object storage, which has no renames, the manifest says that there is a
result: the old one's goes first, the new one's comes last.
"""

import ctypes
import errno
import os

import msgspec

from orchestration.batch.documents import Manifest
from orchestration.batch.errors import OutputError
from orchestration.batch.storage_folder import Folder, sync_folder
from orchestration.batch.work import WORK, Work, locked, others_of

MANIFEST = "_manifest.json"
_PUBLISHING = "publishing"  # in the work folder: files below the output are ours to replace
_OLD = "old"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fs.h
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)


def read_manifest(output: Folder) -> Manifest | None:
    """None where there is no result, or one that is none of ours."""
    data = output.read(MANIFEST)
    try:
        return None if data is None else msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError:
        return None


def require_free(output: Folder, *, overwrite: bool, work: Work | None = None) -> None:
    """OutputError where something is there that must not go. work: of a job that may have been
    killed while it published."""
    if not _is_there(output) or (work and _may_replace(output, work)):
        return
    if output.is_file():
        raise OutputError(f"{output.url} is a file: the output is a folder; name another one")
    if read_manifest(output) is None:
        raise OutputError(
            f"{output.url} is there and has no {MANIFEST} of a batch job, so it is never "
            "overwritten: name another output, or remove it yourself"
        )
    if not overwrite:
        raise OutputError(
            f"{output.url} is there already: name another output, or overwrite it (--overwrite)"
        )


def _is_there(output: Folder) -> bool:
    """Anything but an empty folder, and the work folders of jobs."""
    if output.is_local:
        return output.is_file() or bool(output.names())
    return output.is_file() or bool(_published(output))


def _published(output: Folder) -> list[str]:
    return [name for name in output.files() if not name.startswith(WORK)]


def _may_replace(output: Folder, work: Work) -> bool:
    return not output.is_local and work.folder.size(_PUBLISHING) is not None


def publish(work: Work, output: Folder, manifest: Manifest, *, overwrite: bool) -> None:
    """The result with its manifest becomes the output; what else the work folder had is left."""
    result = work.result
    _keep_only(result, {file.path for file in (*manifest.files, *manifest.rejects_files)})
    result.write(MANIFEST, manifest.encode())
    if output.is_local:
        for folder in {os.path.dirname(result.of(name)) for name in result.files()}:
            sync_folder(folder)
        _appear(result.path, output.path, work.folder.of(_OLD), overwrite=overwrite)
        sync_folder(os.path.dirname(output.path))
    else:
        require_free(output, overwrite=overwrite, work=work)
        _copy(work, result, output)


def finish(work: Work, output: Folder) -> None:
    """Remove the work folder, and those of jobs towards this output that nobody is at."""
    for other in others_of(output, work):
        with locked(other) as is_free:
            if is_free:
                other.remove()
    work.remove()


def _keep_only(result: Folder, names: set[str]) -> None:
    """Without what a killed worker left. OutputError where a file is gone: in object storage
    another job towards this output removes what others have there when it ends."""
    found = set(result.files())
    if gone := sorted(names - found):
        raise OutputError(
            f"{result.of(gone[0])} was removed meanwhile, perhaps by another job towards the same "
            "output; run this one again"
        )
    for name in found - names:
        result.remove(name)


def _appear(result: str, output: str, old: str, *, overwrite: bool) -> None:
    try:
        os.rename(result, output)  # in place of an empty folder, too
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        require_free(Folder(output), overwrite=overwrite)
        exchange(result, output, old)


def exchange(result: str, output: str, old: str) -> None:
    """Both folders get the other's name. Where that takes two steps the output is away for a
    moment, and stays away if that is the last one: then the job has to be run again."""
    if not _renameat2(result, output):
        Folder(old).remove_all()  # of a run that was killed before it had removed it
        os.rename(output, old)
        os.rename(result, output)


def _renameat2(result: str, output: str) -> bool:
    """Whether kernel and file system can do it in one step; renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    paths = (_AT_FDCWD, os.fsencode(result), _AT_FDCWD, os.fsencode(output))
    if libc.renameat2(*paths, _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), output)


def _copy(work: Work, result: Folder, output: Folder) -> None:
    work.folder.write(_PUBLISHING, b"")
    output.remove(MANIFEST)
    names = [name for name in result.files() if name != MANIFEST]
    for name in names:
        result.copy(name, output, name)
    for name in set(_published(output)) - set(names):
        output.remove(name)
    result.copy(MANIFEST, output, MANIFEST)


def was_published(work: Work, output: Folder) -> Manifest | None:
    """The manifest, where this very work was published already and only its folder is left."""
    plan, manifest = work.plan(), read_manifest(output)
    if plan is None or manifest is None:
        return None
    same = (plan.work_digest, plan.scored_at) == (manifest.job, manifest.scored_at)
    return manifest if same else None
