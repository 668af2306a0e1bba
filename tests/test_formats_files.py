"""Paths: the format is found by content and name, and a file is written whole or not at all."""

import errno
import io
import os
import signal as signals_of_the_system
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from inrcodec.formats import files

from inrcodec.errors import LimitError, SignalError
from inrcodec.signals import Signal, SignalMeta, expand

SAMPLES = Path(__file__).parent.parent / "samples"
LIMIT = 2**28
PICTURE = SignalMeta("image", (2, 3), 3, "u1", "rgb")
SOUND = SignalMeta("sound", (9,), 1, "i2", sample_rate_hz=8000)
ARRAY = SignalMeta("array", (4,), 1, "f4", channel_axis=False)
VALUES = {
    "image": np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
    "sound": np.arange(9, dtype=np.int16)[:, None],
    "array": np.arange(4, dtype=np.float32)[:, None],
}


def read(path: Path | str) -> Signal:
    return files.read_signal(path, max_samples=LIMIT)


@pytest.mark.parametrize("meta", [PICTURE, SOUND, ARRAY])
def test_every_format_is_written_by_its_suffix_and_read_by_its_content(meta: SignalMeta, tmp_path: Path) -> None:
    for entry in files.SIGNAL_FORMATS:
        if entry.kind != meta.kind:
            continue
        for suffix in (entry.suffixes[0], entry.suffixes[0].upper()):
            path = tmp_path / f"file{suffix}"
            n_bytes = files.write_signal(path, VALUES[meta.kind], meta, overwrite=True)
            assert path.stat().st_size == n_bytes
            misnamed = path.rename(tmp_path / "file.misnamed")
            found = read(misnamed).meta
            assert (found.kind, found.channels) == (meta.kind, meta.channels)


def test_the_default_suffix_of_each_kind_holds_it_exactly(tmp_path: Path) -> None:
    assert [files.default_suffix(m) for m in (PICTURE, SOUND, ARRAY)] == [".png", ".wav", ".npy"]
    for meta in (PICTURE, SOUND, ARRAY):
        path = tmp_path / f"file{files.default_suffix(meta)}"
        files.write_signal(path, VALUES[meta.kind], meta)
        found = read(path)
        np.testing.assert_allclose(expand(found.samples, found.meta), VALUES[meta.kind], atol=1e-6)  # float32 array


def test_a_named_format_goes_before_the_suffix(tmp_path: Path) -> None:
    files.write_signal(tmp_path / "a.png", VALUES["image"], PICTURE, file_format="jpg")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("name", "file_format"), [("a.wav", None), ("a.xyz", None), ("a", None), ("-", "npy"), ("-", "xyz")]
)
def test_a_format_that_cannot_hold_the_kind_is_a_value_error(
    name: str, file_format: str | None, tmp_path: Path
) -> None:
    path = name if name == "-" else tmp_path / name
    with pytest.raises(ValueError, match="png, jpeg, webp, tiff, bmp"):
        files.write_signal(path, VALUES["image"], PICTURE, file_format=file_format)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "data"), [("a.png", b"plain text\n" * 9), ("a.txt", b"plain text\n" * 9), ("a.png", b"")]
)
def test_what_is_no_signal_is_a_signal_error_that_names_the_file(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SignalError, match=name) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_inr_file_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89INR\r\n\x1a\n" + bytes(80))
    with pytest.raises(SignalError, match="decode it"):
        read(tmp_path / "a.png")


def test_endless_devices_are_refused_at_once() -> None:
    with pytest.raises(SignalError):
        read("/dev/zero")
    with pytest.raises(SignalError, match="empty"):
        read("/dev/null")


def test_files_far_longer_than_the_limit_allows_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.npy"
    with open(path, "wb") as stream:
        stream.write(b"\x93NUMPY")
        stream.truncate(2**27)  # sparse
    with pytest.raises(LimitError, match="longer"):
        files.read_signal(path, max_samples=16)


def test_missing_files_and_directories_are_the_systems_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError):
        read(tmp_path)
    with pytest.raises(IsADirectoryError):
        files.write_atomically(tmp_path, b"x", overwrite=True)
    with pytest.raises(FileNotFoundError):
        files.write_atomically(tmp_path / "missing" / "a", b"x", overwrite=True)


def test_dash_reads_standard_input_and_writes_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        def __init__(self, data: bytes = b"") -> None:
            self.buffer = io.BytesIO(data)

    monkeypatch.setattr(sys, "stdin", Stream((SAMPLES / "tiny.png").read_bytes()))
    assert read("-").meta.shape == (40, 48)
    monkeypatch.setattr(sys, "stdin", Stream(b"text"))
    with pytest.raises(SignalError, match="standard input"):
        read("-")
    out = Stream()
    monkeypatch.setattr(sys, "stdout", out)
    files.write_signal("-", VALUES["image"], PICTURE)
    assert out.buffer.getvalue().startswith(b"\x89PNG")


def test_rarer_picture_formats_are_recognised_by_their_content(tmp_path: Path) -> None:
    from PIL import Image

    for file_format in ("GIF", "PPM", "JPEG2000", "ICO", "TGA"):
        path = tmp_path / f"picture.{file_format}"
        Image.new("RGB", (32, 32), "red").save(path, file_format)
        if file_format == "TGA":  # has no magic number: text files would pass for it
            with pytest.raises(SignalError):
                read(path)
        else:
            assert read(path).meta.kind == "image"


def test_an_existing_file_is_never_replaced_without_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.write_atomically(path, b"new", overwrite=False)
    assert path.read_bytes() == b"old"
    files.write_atomically(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("nameless", [True, False])
def test_a_file_that_comes_meanwhile_is_never_replaced(
    nameless: bool, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    real = os.fsync

    def fsync_while_another_writes(descriptor: int) -> None:
        real(descriptor)
        path.write_bytes(b"theirs")

    monkeypatch.setattr(os, "fsync", fsync_while_another_writes)
    without(monkeypatch, nameless=nameless, links=links)
    with pytest.raises(FileExistsError):
        files.write_atomically(path, b"ours", overwrite=False)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def without(monkeypatch: pytest.MonkeyPatch, *, nameless: bool, links: bool) -> None:
    """Makes the system one that lacks nameless files or hard links, as some file systems do."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if not links:
        link = os.link

        def refuse(source: str, target: str, **options: object) -> None:
            if not source.startswith("/proc"):
                raise OSError(errno.EPERM, "no links here")
            link(source, target, **options)

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("overwrite", [True, False])
def test_new_files_are_written_whole_with_the_usual_permissions(
    overwrite: bool, nameless: bool, links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, nameless=nameless, links=links)
    before = os.umask(0o027)
    try:
        files.write_atomically(tmp_path / "a.bin", b"data" * 10_000, overwrite=overwrite)
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").read_bytes() == b"data" * 10_000
    if nameless or links:
        assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_overwritten_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o604)
    files.write_atomically(path, b"new", overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.parametrize("nameless", [True, False])
@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_no_other(
    error: BaseException, function: str, nameless: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise error

    without(monkeypatch, nameless=nameless, links=True)
    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        files.write_atomically(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_a_killed_process_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import os, sys, time\nfrom inrcodec.formats import files\n"
        "real = os.fsync\n"
        "def slow(fd):\n    real(fd); print('written', flush=True); time.sleep(60)\n"
        "os.fsync = slow\n"
        "files.write_atomically(sys.argv[1], b'new' * 100_000, overwrite=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
        process.send_signal(signals_of_the_system.SIGKILL)
    assert path.read_bytes() == b"old"
    if hasattr(os, "O_TMPFILE"):
        assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_symbolic_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for name, target in (("link", "there.bin"), ("dangling", "new.bin")):
        (tmp_path / name).symlink_to(tmp_path / "real" / target)
    (tmp_path / "real" / "there.bin").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.write_atomically(tmp_path / "link", b"new", overwrite=False)
    files.write_atomically(tmp_path / "link", b"new", overwrite=True)
    files.write_atomically(tmp_path / "dangling", b"new", overwrite=False)
    for name in ("link", "dangling"):
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_bytes() == b"new"
    assert len(list((tmp_path / "real").iterdir())) == 2


def test_devices_and_pipes_can_be_written_to(tmp_path: Path) -> None:
    files.write_atomically("/dev/null", b"data", overwrite=False)
    assert files.format_for("/dev/null", PICTURE).name == "png"
    code = (
        "from inrcodec.formats import files; files.write_atomically('/dev/stdout', b'data' * 50_000, overwrite=False)"
    )
    for target in (subprocess.PIPE, open(tmp_path / "redirected", "wb")):  # noqa: SIM115
        done = subprocess.run([sys.executable, "-c", code], stdout=target, check=True)
        if target is not subprocess.PIPE:
            target.close()
        written = done.stdout if target is subprocess.PIPE else (tmp_path / "redirected").read_bytes()
        assert written == b"data" * 50_000


def test_names_as_long_as_the_system_allows_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write_atomically("n" * 255, b"data", overwrite=False)
    assert Path("n" * 255).read_bytes() == b"data"


def test_choosing_a_format_imports_no_torch_and_no_sound_library() -> None:
    code = (
        "import sys\nfrom inrcodec.formats import files\n"
        "assert 'numpy' not in sys.modules\n"
        f"files.read_signal({str(SAMPLES / 'tiny.png')!r}, max_samples=10**6)\n"
        f"files.read_signal({str(SAMPLES / 'cat-16bit.png')!r}, max_samples=10**6)\n"
        "print([m for m in ('torch', 'soundfile', 'cv2', 'skimage', 'tifffile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "[]\n"
