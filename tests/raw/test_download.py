"""`make download` against a host on this machine that cuts, ignores ranges, lies or is not there."""

import errno
import hashlib
import io
import os
import shlex
import shutil
import socket
import struct
import subprocess
import tarfile
import threading
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nextreel import progress
from nextreel.errors import UserError
from nextreel.params import Name, Params, Section
from nextreel.raw import download
from nextreel.raw.download import DATA_SETS, unpack

LOG = np.random.default_rng(0).bytes(400_000)  # what cannot be compressed, so that the archive is as long
LOG_PATH = "KuaiRand-Pure/data/log_standard_pure.csv"
CUT = 150_000


def packed(*members):
    """A .tar.gz of (name or TarInfo, content); a TarInfo keeps what it says it is."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for about, content in members:
            info = about if isinstance(about, tarfile.TarInfo) else tarfile.TarInfo(about)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ARCHIVE = packed((special("KuaiRand-Pure", tarfile.DIRTYPE), b""), (LOG_PATH, LOG))


class Host:
    """Serves files by name; `asked` holds the Range of every request, `sent` the bytes of every answer."""

    def __init__(self):
        self.files, self.asked, self.sent = {}, [], []
        self.cuts = []  # bytes after which the next answers stop
        self.statuses = []  # of the next answers, in place of a file
        self.knows_ranges = True
        self.resets = False  # the next answer ends with a reset
        self.first = None  # byte that every answer claims to start at, in place of the one asked for

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if self.statuses:
            return request.send_error(self.statuses.pop(0))
        content = self.files[request.path.strip("/")]
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.knows_ranges else None
        if start is not None and start >= len(content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(content)}")
            return request.end_headers()
        request.send_response(200 if start is None else 206)
        if start is not None:
            first = start if self.first is None else self.first
            request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        body = content[start or 0 :]
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        body = body[: self.cuts.pop(0)] if self.cuts else body
        self.sent.append(len(body))
        request.wfile.write(body)
        if self.resets:
            request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.connection.close()
            self.resets = False


@pytest.fixture
def host(monkeypatch):
    """A host that stands in for the real ones, with every archive and extra."""
    host = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            host.answer(self)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name, data_set in list(DATA_SETS.items()):
        content = f"final_video_id\n{name}\n".encode()
        if data_set.unpacked:
            content = packed((f"{data_set.file.removesuffix('.tar.gz')}/data/log_standard.csv", b"user_id\n"))
        if name == "kuairand-pure":
            content = ARCHIVE
        host.files[data_set.file] = content
        url = f"http://127.0.0.1:{server.server_port}/{data_set.file}"
        served = replace(data_set, url=url, md5=hashlib.md5(content).hexdigest(), unpacked=data_set.unpacked and 10**6)
        monkeypatch.setitem(DATA_SETS, name, served)
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield host
    server.shutdown()
    server.server_close()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def part(cache):
    cache.mkdir()
    return cache / "KuaiRand-Pure.tar.gz.part"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_unpacked(cache):
    assert (cache / "kuairand-pure" / LOG_PATH).read_bytes() == LOG
    assert names(cache) == ["KuaiRand-Pure.tar.gz", "kuairand-pure"]


def refusal(call, *arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    return str(error.value)


# --- what is published ---


def test_the_table_holds_what_the_message_lists():
    assert [name for name, data_set in DATA_SETS.items() if not data_set.unpacked] == [
        "kuairand-captions",
        "kuairand-categories",
    ]
    assert all(len(data_set.md5) == 32 and data_set.url.startswith("https://") for data_set in DATA_SETS.values())
    assert DATA_SETS["kuairand-27k"].file == "KuaiRand-27K.tar.gz"


def test_an_unknown_or_missing_name_lists_the_names(cache):
    listed = "kuairand-pure, kuairand-1k, kuairand-27k, kuairand-captions, kuairand-categories"
    assert refusal(download.download, "kuairand1k", cache) == (
        "DATA is `kuairand1k`; did you mean `kuairand-1k`?\n"
        f"run `make download DATA=NAME` with one of: {listed}"
    )  # fmt: skip
    assert refusal(download.download, "", cache).startswith("DATA is missing\n")
    assert not cache.exists()


# --- the way here ---


def test_a_download_is_checked_unpacked_and_its_command_printed(host, cache, capsys):
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    data = cache / "kuairand-pure" / "KuaiRand-Pure" / "data"
    assert capsys.readouterr().out == (
        "checking the md5 of KuaiRand-Pure.tar.gz\n"
        f"to run on kuairand-pure:\n  dvc exp run -S ingest.path={data} -S label.positive=long_view\n"
    )


def test_a_second_call_asks_nobody(host, cache):
    download.download("kuairand-pure", cache)
    (cache / "KuaiRand-Pure.tar.gz").unlink()  # nor does it need the archive
    download.download("kuairand-pure", cache)
    assert host.asked == [None]


def test_an_archive_that_is_there_is_checked_and_unpacked_without_a_request(host, cache, part):
    (cache / "KuaiRand-Pure.tar.gz").write_bytes(ARCHIVE)
    part.write_bytes(b"of an earlier try")
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert host.asked == []


def test_a_cut_download_goes_on_where_it_stopped(host, cache, capsys):
    host.cuts = [CUT]
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    wanted = int(host.asked[1].removeprefix("bytes=").removesuffix("-"))
    assert CUT - 2**16 < wanted <= CUT
    assert host.sent == [CUT, len(ARCHIVE) - wanted]
    assert "the download stopped at 131kB and goes on in 1 s: " in capsys.readouterr().out


def test_a_reset_connection_is_a_cut(host, cache):
    host.cuts, host.resets = [CUT], True
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert len(host.asked) == 2


def test_a_busy_host_is_asked_again(host, cache):
    host.statuses = [429, 503]
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)


def test_a_file_that_is_gone_is_asked_for_once(host, cache):
    host.statuses = [404]
    assert "404 Client Error" in refusal(download.download, "kuairand-pure", cache)
    assert host.asked == [None]


def test_what_a_killed_download_left_is_used(host, cache, part):
    part.write_bytes(ARCHIVE[:CUT])
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert host.asked == [f"bytes={CUT}-"]
    assert host.sent == [len(ARCHIVE) - CUT]


def test_a_host_without_ranges_starts_anew(host, cache, part):
    part.write_bytes(b"x" * CUT)
    host.knows_ranges = False
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert host.sent == [len(ARCHIVE)]


def test_a_host_that_sends_another_range_is_asked_for_all(host, cache, part):
    part.write_bytes(ARCHIVE[:CUT])
    host.first = CUT + 1
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert host.asked == [f"bytes={CUT}-", None]


def test_a_complete_part_is_taken(host, cache, part):
    part.write_bytes(ARCHIVE)
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert host.sent == []


def test_a_part_longer_than_the_file_is_dropped(host, cache, part):
    part.write_bytes(ARCHIVE + b"x")
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)
    assert host.asked == [f"bytes={len(ARCHIVE) + 1}-", None]


def test_a_line_that_is_cut_each_time_is_given_up_and_the_part_kept(host, cache):
    host.cuts = [CUT, 0, 0, 0]
    message = refusal(download.download, "kuairand-pure", cache)
    assert "\n131kB are kept, and the same command goes on from there\nby hand: download\n" in message
    assert len(host.asked) == 4
    assert names(cache) == ["KuaiRand-Pure.tar.gz.part"]
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)


def test_stopping_while_the_md5_is_checked_keeps_what_was_downloaded(host, cache, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.core.hash_matches", stop)
    with pytest.raises(KeyboardInterrupt):
        download.download("kuairand-pure", cache)
    assert names(cache) == ["KuaiRand-Pure.tar.gz.part"]
    assert (cache / "KuaiRand-Pure.tar.gz.part").read_bytes() == ARCHIVE


def test_without_a_network_it_says_what_to_do_by_hand(host, cache, monkeypatch, capsys):
    data_set = replace(DATA_SETS["kuairand-pure"], url="http://127.0.0.1:9/KuaiRand-Pure.tar.gz")  # discard: refused
    monkeypatch.setitem(DATA_SETS, "kuairand-pure", data_set)
    message = refusal(download.download, "kuairand-pure", cache)
    assert message.startswith(f"{data_set.url} cannot be downloaded: ")
    assert message.endswith(
        "Connection refused\n"
        f"by hand: download\n  {data_set.url}\nto\n  {cache / 'KuaiRand-Pure.tar.gz'}\n"
        f"(md5 {data_set.md5}) and run the same command again, which checks it and goes on"
    )
    assert capsys.readouterr().out == ""  # no other try
    (cache / "KuaiRand-Pure.tar.gz").write_bytes(ARCHIVE)
    download.download("kuairand-pure", cache)
    assert_unpacked(cache)


@pytest.mark.parametrize("by_hand", [False, True])
def test_another_md5_is_told_and_the_file_deleted(host, cache, part, by_hand):
    if by_hand:
        (cache / "KuaiRand-Pure.tar.gz").write_bytes(b"an error page")
    else:
        host.files["KuaiRand-Pure.tar.gz"] = b"an error page"
    message = refusal(download.download, "kuairand-pure", cache)
    expected, found = hashlib.md5(ARCHIVE).hexdigest(), hashlib.md5(b"an error page").hexdigest()
    assert f"(KuaiRand-Pure.tar.gz) does not match the known hash: expected md5:{expected} but got {found}" in message
    assert message.endswith("Run the same command again to download it anew.")
    assert names(cache) == []


# --- the disk ---

Usage = namedtuple("Usage", "total used free")


def test_too_little_room_is_told_before_anything_is_written(host, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 1_200_000))
    assert refusal(download.download, "kuairand-pure", cache) == (
        f"downloading and unpacking KuaiRand-Pure.tar.gz needs 1.40MB, and {cache} has 1.20MB free; free some, or set"
        " NEXTREEL_CACHE to a folder with more, and run again"
    )
    assert names(cache) == []


def test_too_little_room_to_unpack_is_told_before_anything_is_written(host, cache, part, monkeypatch):
    (cache / "KuaiRand-Pure.tar.gz").write_bytes(ARCHIVE)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 0, 900_000))
    message = refusal(download.download, "kuairand-pure", cache)
    assert message.startswith(f"unpacking KuaiRand-Pure.tar.gz needs 1.00MB, and {cache} has 900kB free; ")
    assert names(cache) == ["KuaiRand-Pure.tar.gz"]


def test_a_disk_that_fills_up_leaves_no_folder(host, cache, monkeypatch):
    really_open = Path.open

    def full(path, mode="r", *arguments, **named):
        if mode == "xb":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really_open(path, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    assert refusal(download.download, "kuairand-pure", cache) == (
        f"{cache}: No space left on device; mend it, or set NEXTREEL_CACHE to another folder, and run again"
    )
    assert names(cache) == ["KuaiRand-Pure.tar.gz"]


def test_a_cache_that_may_not_be_written_is_told(host, cache, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(cache))

    monkeypatch.setattr(Path, "mkdir", denied)
    message = refusal(download.download, "kuairand-pure", cache)
    assert message.startswith(f"{cache}: Permission denied; mend it, or set NEXTREEL_CACHE")


# --- archives ---

GOOD = ("KuaiRand-Pure/data/log.csv", b"user_id\n")


def unpack_bytes(content, tmp_path, limit=10**6):
    """Unpack an archive that must be refused; nothing but the archive may be left. Returns the message."""
    (tmp_path / "cache").mkdir()
    archive = tmp_path / "cache" / "a.tar.gz"
    archive.write_bytes(content)
    message = refusal(unpack, archive, tmp_path / "cache" / "a", limit)
    assert names(tmp_path) == ["cache"]
    assert names(tmp_path / "cache") == ["a.tar.gz"]
    assert message.startswith(str(archive))
    return message


@pytest.mark.parametrize("name", ["../x", "data/../../x", "/abs"])
def test_a_path_that_leads_out_is_refused(tmp_path, name):
    assert unpack_bytes(packed(GOOD, (name, b"x")), tmp_path).endswith(
        f"a.tar.gz is not unpacked: it holds `{name}`, which leads out of the folder that it is unpacked into."
        " It is not what was published: delete it"
    )


@pytest.mark.parametrize(
    "member",
    [
        special("data", tarfile.SYMTYPE, "/etc"),
        special("data", tarfile.LNKTYPE, "../../outside"),
        special("data", tarfile.CHRTYPE),
        special("data", tarfile.FIFOTYPE),
    ],
    ids=["symlink", "hardlink", "device", "pipe"],
)
def test_links_and_devices_are_refused(tmp_path, member):
    message = unpack_bytes(packed(GOOD, (member, b"")), tmp_path)
    assert "it holds `data`, which is a link or a device; only files and folders may be in it" in message


def test_a_bomb_is_refused(tmp_path):
    bomb = packed(GOOD, ("zeros", bytes(5 * 10**6)))
    assert len(bomb) < 10**4
    message = unpack_bytes(bomb, tmp_path)
    assert "it holds more than 1.00MB, the most that is expected of it, with `zeros`" in message


def test_many_small_files_are_a_bomb_too(tmp_path):
    message = unpack_bytes(packed(*((str(i), b"") for i in range(101))), tmp_path)
    assert "it holds more than 100 files and folders, the most that is expected of it" in message


@pytest.mark.parametrize("end", [0, 5, CUT, -4], ids=["empty", "header", "half", "checksum"])
def test_a_truncated_archive_is_told(tmp_path, end):
    assert "a.tar.gz is damaged: " in unpack_bytes(ARCHIVE[:end], tmp_path)


@pytest.mark.parametrize("content", [b"<html>an error page</html>", ARCHIVE[:CUT] + b"x" + ARCHIVE[CUT + 1 :]])
def test_a_corrupt_archive_is_told(tmp_path, content):
    assert unpack_bytes(content, tmp_path).endswith("; delete it and run again to download it anew")


# --- extras ---


def test_extras_are_linked_before_and_after(host, cache, capsys):
    captions, categories = cache / "kuairand_video_captions.csv", cache / "kuairand_video_categories.csv"
    download.download("kuairand-captions", cache)
    assert capsys.readouterr().out.endswith(
        f"{captions} is linked into every KuaiRand in {cache}, now and when one is added\n"
    )
    download.download("kuairand-1k", cache)
    download.download("kuairand-pure", cache)
    capsys.readouterr()
    download.download("kuairand-categories", cache)
    commands = [line for line in capsys.readouterr().out.splitlines() if "dvc exp run" in line]
    for name, command in zip(["Pure", "1K"], commands, strict=True):
        data = cache / f"kuairand-{name.lower()}" / f"KuaiRand-{name}" / "data"
        assert f" -S ingest.path={data} -S label.positive=long_view" in command
        for extra in (captions, categories):
            assert (data / extra.name).samefile(extra)
    assert len(host.asked) == 4


def test_extras_are_copied_where_the_disk_knows_no_links(host, cache, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    download.download("kuairand-1k", cache)
    download.download("kuairand-captions", cache)
    copy = cache / "kuairand-1k" / "KuaiRand-1K" / "data" / "kuairand_video_captions.csv"
    assert copy.read_bytes() == host.files["kuairand_video_captions.csv"]


# --- the command ---


def test_the_cache_is_where_the_environment_says(host, tmp_path, monkeypatch):
    monkeypatch.setenv("NEXTREEL_CACHE", str(tmp_path / "elsewhere"))
    assert download.main("kuairand-pure") is None
    assert_unpacked(tmp_path / "elsewhere")


def test_an_error_is_a_message_and_stopping_is_no_traceback(monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    assert download.main("kuairand").startswith("\nerror: DATA is `kuairand`; did you mean ")
    monkeypatch.setattr(download, "download", stop)
    assert download.main("kuairand-pure") == "\nstopped; the same command goes on from here\n"


def test_progress_of_bytes_counts_what_was_there(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with progress.bar("a.tar.gz downloads", total=4_000_000, unit="B", done=1_000_000) as shown:
        shown.update(2_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("a.tar.gz downloads: 1.00M/4.00M, ")
    assert lines[-1].startswith("a.tar.gz downloads: 3.00M/4.00M, ")
    assert lines[-1].endswith("B/s, 00:00 left")


# --- the command that is printed ---


def after_shell_and_hydra(option, folder):
    """What `ingest.path` is once the shell, Hydra and params.yaml have passed it on."""
    typed = subprocess.run(["bash", "-c", f"printf %s {option}"], check=True, capture_output=True, text=True).stdout
    assert [typed] == shlex.split(option)
    path = folder / "params.yaml"
    path.write_text("ingest:\n  path: data/raw  # where\n", encoding="utf-8")
    apply_overrides(path, to_path_overrides([typed])["params.yaml"])
    return Params.load(path).get("ingest.path")


HOSTILE = st.text(st.sampled_from(list("ab/ .'\"\\${}[]()<>=,:;#&*?!|~^%@`+-\tüж漢")))
ANY = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("/a b")
@example("/it's")
@example(r"/\'")
@example("/\\")
@example("/${oc.env:HOME}")
@example(r"/\${a}")
@example(r"/\\${a}\\")
@example("/[1], {2}=(3)")
@example("/~ $HOME `id` !!")
@example("/# no: comment")
@given((HOSTILE | ANY).map("/{}".format))
def test_a_path_passes_the_shell_hydra_and_yaml_as_it_is(tmp_path, path):
    assert after_shell_and_hydra(download.setting("ingest.path", path), tmp_path) == path


@pytest.mark.parametrize("name", ["yes", "1e3", "true", "null ", "2022-04-22", "007", "~", "a b"])
def test_a_name_that_is_quoted_stays_as_it_is(tmp_path, name):
    assert after_shell_and_hydra(download.setting("ingest.path", name), tmp_path) == name


def test_a_plain_path_is_printed_plain_and_another_one_readably():
    assert download.setting("ingest.path", "/data/KuaiRand-1K/data") == "ingest.path=/data/KuaiRand-1K/data"
    assert download.setting("ingest.path", "/my data") == "\"ingest.path='/my data'\""


@pytest.mark.parametrize("name", ["0", "-7", "yes", "no", "on", "007", "0x10", "12:30", "2022-04-22", "uid"])
def test_a_name_that_needs_no_quotes_stays_as_it_is_spelled(tmp_path, name):
    class Log(Section):
        path: Name

    after_shell_and_hydra(f"ingest.path={name}", tmp_path)
    assert Params.load(tmp_path / "params.yaml").section("ingest", Log).path == name
