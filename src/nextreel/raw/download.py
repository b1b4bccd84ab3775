"""Published data sets, downloaded, checked and unpacked into a cache that serves every clone: `make download`.

In the cache:
KuaiRand-1K.tar.gz                as published
KuaiRand-1K.tar.gz.part           what a stopped download left; the next one goes on from its end
kuairand-1k/KuaiRand-1K/data/     unpacked
kuairand_video_captions.csv       an extra, linked into the data folder of every KuaiRand
"""

import gzip
import os
import re
import shlex
import shutil
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pooch
import requests
from tqdm import tqdm

from nextreel import files
from nextreel.errors import UserError
from nextreel.params import nearest
from nextreel.progress import bar

_CHUNK = 2**16  # bytes; a cut loses less than one
_TRIES = 4
_TIMEOUT_S = 30
_FINAL = {401, 403, 404, 410}  # statuses that another try does not change
_MOST_MEMBERS = 100  # KuaiRand-27K has about fifteen
_PLAIN = re.compile(r"/[\w./-]*", re.ASCII)  # a path that neither the shell nor Hydra reads anything into
_DAMAGED = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)


@dataclass(frozen=True)
class DataSet:
    """A published file: a KuaiRand's archive or, where nothing is to be unpacked, an extra."""

    url: str
    md5: str
    unpacked: int = 0  # bytes, about: what must be free; an archive of more than twice as many is refused
    options: str = ""  # of `dvc exp run`

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[1]


_LABEL = "-S label.positive=long_view"
_MANY_VIDEOS = f"{_LABEL} -S model.loss=sampled_softmax"
_KUAIRAND = "https://zenodo.org/records/10439422/files/KuaiRand"
_EXTRA = "https://zenodo.org/records/18159199/files/kuairand_video"
# Sizes: Pure and 27K at 74 bytes a row of a log and 800 a video; 1K is known to take 4.4 GB, which that gives, too.
DATA_SETS = {
    "kuairand-pure": DataSet(f"{_KUAIRAND}-Pure.tar.gz", "0820331067a3784d9691136f772b35a7", 200_000_000, _LABEL),
    "kuairand-1k": DataSet(f"{_KUAIRAND}-1K.tar.gz", "6b0b9c8222d67fcd4c676218edca3f1f", 4_400_000_000, _MANY_VIDEOS),
    "kuairand-27k": DataSet(
        f"{_KUAIRAND}-27K.tar.gz", "3e3c799a24e2d23a4d2c757fbf9adf59", 50_000_000_000, _MANY_VIDEOS
    ),
    "kuairand-captions": DataSet(f"{_EXTRA}_captions.csv", "9fd4e7587ffd0c8dc289d013858fb229"),
    "kuairand-categories": DataSet(f"{_EXTRA}_categories.csv", "8a4c772d3d8f8cf65fa1e1eb896f4177"),
}


def download(name: str, cache: Path) -> None:
    """Bring a data set into `cache`, link the extras and print the command that runs on it.

    What is there already is not asked for again. Raises UserError for an unknown name, and where the network, the disk
    or the file is at fault.
    """
    if name not in DATA_SETS:
        found = f"DATA is `{name}`{nearest(name, DATA_SETS)}" if name else "DATA is missing"
        raise UserError(f"{found}\nrun `make download DATA=NAME` with one of: {', '.join(DATA_SETS)}")
    data_set = DATA_SETS[name]
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not data_set.unpacked:
            fetch(data_set, cache)
        elif not _data_folder(name, cache).is_dir():
            archive = fetch(data_set, cache)
            _check_room(cache, data_set.unpacked, f"unpacking {archive.name}")
            unpack(archive, cache / name, limit=2 * data_set.unpacked)
        _link_extras(cache)
    except OSError as error:
        raise UserError(
            f"{cache}: {error.strerror or error}; mend it, or set NEXTREEL_CACHE to another folder, and run again"
        ) from error
    _print_commands(name, cache)


def fetch(data_set: DataSet, cache: Path) -> Path:
    """The published file in `cache`, with the right md5, downloaded where it is absent.

    Raises UserError where it cannot be had, or has another md5; it is deleted then.
    """
    path = cache / data_set.file
    part = path.with_name(f"{path.name}.part")

    def downloader(url: str, output: str, _: object) -> None:
        """Called by pooch where `path` is absent or has another md5; pooch then checks `output`."""
        Path(output).unlink()  # empty; a killed download would leave it
        if path.exists():
            path.replace(output)  # to be refused and deleted
            return
        _receive(data_set, part)
        print(f"checking the md5 of {path.name}", flush=True)
        _link(part, Path(output))  # and not moved: pooch deletes `output` if it is stopped while it checks

    pooch.get_logger().setLevel("WARNING")
    if path.exists():
        print(f"checking the md5 of {path}", flush=True)
    try:
        pooch.retrieve(data_set.url, f"md5:{data_set.md5}", path.name, cache, downloader=downloader)
    except ValueError as error:  # names the file, the md5 expected and the one found
        part.unlink(missing_ok=True)
        raise UserError(f"{error} Run the same command again to download it anew.") from None
    part.unlink(missing_ok=True)
    return path


def _receive(data_set: DataSet, part: Path) -> None:
    """Download what `part` lacks, a few times if the line is cut. Raises UserError that says how to go on."""
    for attempt in range(1, _TRIES + 1):
        try:
            return _receive_rest(data_set, part)
        except requests.RequestException as error:
            unreachable = getattr(error.args[0], "reason", None)  # urllib3's, where there was no connection at all
            status = None if error.response is None else error.response.status_code
            problem = f"{data_set.url} cannot be downloaded: {unreachable or error}"
            have = _bytes_in(part)
            if have:
                problem += f"\n{_size(have)} are kept, and the same command goes on from there"
            if attempt == _TRIES or status in _FINAL or (unreachable and attempt == 1):
                raise UserError(
                    f"{problem}\nby hand: download\n  {data_set.url}\nto\n  {part.parent / data_set.file}\n"
                    f"(md5 {data_set.md5}) and run the same command again, which checks it and goes on"
                ) from None
            print(f"the download stopped at {_size(have)} and goes on in {attempt} s: {error}", flush=True)
            time.sleep(attempt)


def _receive_rest(data_set: DataSet, part: Path) -> None:
    """One request for the bytes that `part` lacks, appended to it. Raises RequestException where they do not come."""
    have = _bytes_in(part)
    # Compression on the way would make the lengths other ones; some hosts refuse the library's own name.
    headers = {"Accept-Encoding": "identity", "User-Agent": "nextreel"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(data_set.url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        content_range = response.headers.get("Content-Range", "")
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            if content_range in ("", f"bytes */{have}"):
                return  # complete, or the md5 will tell
            part.unlink()
            raise requests.RequestException(f"{part.name} holds {have} bytes, the server has {content_range}")
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0  # the server sends all of it
        elif not re.match(rf"bytes {have}-", content_range):
            part.unlink(missing_ok=True)
            raise requests.RequestException(f"asked for the bytes from {have}, the server sends {content_range!r}")
        length = response.headers.get("Content-Length")
        rest = int(length) if length else 0
        _check_room(part.parent, rest + data_set.unpacked, f"downloading and unpacking {data_set.file}")
        total = have + rest if rest else None
        with part.open("ab" if have else "wb") as file, bar(f"{data_set.file} downloads", total, "B", have) as shown:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                shown.update(len(chunk))


def _bytes_in(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def unpack(archive: Path, folder: Path, limit: int) -> None:
    """Unpack a .tar.gz into `folder`, all of it or nothing. Each member is checked before any of it is written.

    limit: bytes that the files may take together.
    Raises UserError where the archive is damaged, leads out of `folder`, holds anything but plain files and folders, or
    more than it may; OSError where the disk fails.
    """
    try:
        with (
            files.replacing(folder) as temporary,
            archive.open("rb") as packed,
            gzip.open(packed) as stream,
            tarfile.open(fileobj=stream, mode="r|") as members,
            bar(f"{archive.name} unpacks", archive.stat().st_size, "B") as shown,
        ):
            temporary.mkdir()
            for member, path in _checked(members, archive, limit):
                target = temporary / path
                if member.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(member)
                assert content is not None  # it is a file
                with target.open("xb") as file:
                    while chunk := content.read(_CHUNK):
                        file.write(chunk)
                        shown.update(packed.tell() - shown.n)
            while stream.read(_CHUNK):  # to the end, where gzip's checksum is
                pass
    except _DAMAGED as error:
        raise UserError(f"{archive} is damaged: {error}; delete it and run again to download it anew") from None


def _checked(members: tarfile.TarFile, archive: Path, limit: int) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Each member with its path, if it may be unpacked."""
    left = limit
    for number, member in enumerate(members, 1):
        path = PurePosixPath(member.name)
        left -= member.size
        problem = None
        if not (member.isreg() or member.isdir()):
            problem = f"`{path}`, which is a link or a device; only files and folders may be in it"
        elif path.is_absolute() or ".." in path.parts:
            problem = f"`{path}`, which leads out of the folder that it is unpacked into"
        elif left < 0:
            problem = f"more than {_size(limit)}, the most that is expected of it, with `{path}`"
        elif number > _MOST_MEMBERS:
            problem = f"more than {_MOST_MEMBERS} files and folders, the most that is expected of it"
        if problem:
            raise UserError(f"{archive} is not unpacked: it holds {problem}. It is not what was published: delete it")
        yield member, path


def _link_extras(cache: Path) -> None:
    """Put the extras that are in the cache into the data folder of every KuaiRand there, where `ingest` looks."""
    extras = [cache / data_set.file for data_set in DATA_SETS.values() if not data_set.unpacked]
    for folder in _data_folders(cache).values():
        for extra in extras:
            target = folder / extra.name
            if extra.exists() and not target.exists():
                with files.replacing(target) as temporary:
                    _link(extra, temporary)


def _link(source: Path, target: Path) -> None:
    """Make `target` a second name of a file, a copy where the disk knows no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _data_folder(name: str, cache: Path) -> Path:
    """Where an archive's CSVs are once it is unpacked."""
    return cache / name / DATA_SETS[name].file.removesuffix(".tar.gz") / "data"


def _data_folders(cache: Path) -> dict[str, Path]:
    """Those of every KuaiRand that is unpacked, by name."""
    folders = {name: _data_folder(name, cache) for name, data_set in DATA_SETS.items() if data_set.unpacked}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


def _check_room(folder: Path, needed: int, doing: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{doing} needs {_size(needed)}, and {folder} has {_size(free)} free; free some, or set NEXTREEL_CACHE to a"
            " folder with more, and run again"
        )


def _size(n_bytes: int) -> str:
    return tqdm.format_sizeof(n_bytes, "B")


def _print_commands(name: str, cache: Path) -> None:
    folders = _data_folders(cache)
    if DATA_SETS[name].unpacked:
        folders = {name: _data_folder(name, cache)}
    else:
        print(f"{cache / DATA_SETS[name].file} is linked into every KuaiRand in {cache}, now and when one is added")
    for unpacked, folder in folders.items():
        option = setting("ingest.path", str(folder))
        print(f"to run on {unpacked}:\n  dvc exp run -S {option} {DATA_SETS[unpacked].options}")


def setting(key: str, text: str) -> str:
    """What to type after `dvc exp run -S` so that `key` of params.yaml becomes `text`, whatever it holds: the shell
    reads it first, then Hydra, then OmegaConf."""
    if _PLAIN.fullmatch(text):
        return f"{key}={text}"
    literal = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # else the value of another key
    quoted = re.sub(r"(\\*)('|$)", lambda end: 2 * end[1] + end[2].replace("'", r"\'"), literal)
    option = f"{key}='{quoted}'"
    return shlex.quote(option) if re.search(r'[$`"\\!\n]', option) else f'"{option}"'


def main(name: str) -> str | None:
    """What went wrong, None if nothing."""
    cache = Path(os.environ.get("NEXTREEL_CACHE") or pooch.os_cache("nextreel")).expanduser().resolve()
    try:
        download(name, cache)
    except UserError as error:
        return f"\nerror: {error}\n"
    except KeyboardInterrupt:
        return "\nstopped; the same command goes on from here\n"
    return None


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
