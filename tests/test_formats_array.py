"""Arrays: axes and types come back as they went in."""

import io

import numpy as np
import pytest
from inrcodec.formats import array

from inrcodec.errors import LimitError, SignalError
from inrcodec.signals import SAMPLE_TYPES, Signal, expand

LIMIT = 2**28


def npy(values: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def read(values: np.ndarray) -> Signal:
    return array.read(npy(values), max_samples=LIMIT)


def back(signal: Signal) -> np.ndarray:
    return np.load(io.BytesIO(array.write(expand(signal.samples, signal.meta), signal.meta, {})), allow_pickle=False)


@pytest.mark.parametrize(
    ("shape", "signal_shape", "channels"),
    [
        ((7,), (7,), 1),
        ((1,), (1,), 1),
        ((9, 7), (9, 7), 1),
        ((9, 4), (9,), 4),  # few entries behind many: channels
        ((4, 3), (4, 3), 1),  # few everywhere: no channels
        ((1, 1), (1, 1), 1),
        ((9, 7, 3), (9, 7), 3),
        ((9, 3, 3), (9, 3, 3), 1),
        ((9, 7, 5), (9, 7, 5), 1),
        ((5, 6, 7, 11), (5, 6, 7), 11),
        ((1, 1, 1, 1), (1, 1, 1), 1),
    ],
)
def test_axes_are_told_apart_and_come_back(
    shape: tuple[int, ...], signal_shape: tuple[int, ...], channels: int
) -> None:
    values = np.random.default_rng(0).integers(-100, 100, shape).astype(np.int16)
    signal = read(values)
    assert (signal.meta.shape, signal.meta.channels) == (signal_shape, channels)
    assert signal.samples.shape == (*signal_shape, channels)
    assert back(signal).dtype == values.dtype
    np.testing.assert_array_equal(back(signal), values)


@pytest.mark.parametrize("sample_type", SAMPLE_TYPES["array"])
def test_every_type_comes_back_within_a_float32_of_its_range(sample_type: str) -> None:
    generator = np.random.default_rng(0)
    values = (generator.standard_normal((13, 17)) * 50 + 60).clip(0, 120).astype(sample_type)
    signal = read(values)
    assert signal.meta.sample_type == sample_type
    assert signal.samples.dtype == np.float32
    assert signal.samples.min() == 0 and signal.samples.max() == 1
    assert back(signal).dtype == values.dtype
    np.testing.assert_allclose(back(signal).astype(float), values.astype(float), atol=120 * 2**-23)  # float32 samples
    if sample_type[0] in "biu":
        np.testing.assert_array_equal(back(signal), values)


@pytest.mark.parametrize("value", [0.0, 1 / 3, -1e300, 5e-324])
def test_a_constant_comes_back_exactly(value: float) -> None:
    signal = read(np.full((3, 5), value))
    assert (signal.meta.offset, signal.meta.scale) == (value, 1.0)
    np.testing.assert_array_equal(back(signal), np.full((3, 5), value))
    assert back(read(np.full(3, True))).all()


def test_extreme_integers_keep_their_ends() -> None:
    for sample_type in ("u8", "i8", "u4", "i4"):
        ends = np.array([np.iinfo(sample_type).min, 0, np.iinfo(sample_type).max], sample_type)
        np.testing.assert_array_equal(back(read(ends))[[0, 2]], ends[[0, 2]])


def test_byte_order_and_memory_order_do_not_matter() -> None:
    values = np.random.default_rng(0).standard_normal((9, 7)).astype(">f4")
    for stored in (values, np.asfortranarray(values)):
        np.testing.assert_allclose(back(read(stored)), values, atol=1e-6)  # float32 of a range of about 5


def test_old_headers_are_read() -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(5.0), version=(2, 0))
    assert array.read(stream.getvalue(), max_samples=LIMIT).meta.shape == (5,)


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, np.nan]),
        np.array([1.0, np.inf]),
        np.array([1j]),
        np.array(3.0),
        np.zeros((0,)),
        np.zeros((3, 0, 2)),
        np.zeros((2, 2, 2, 2, 2)),
        np.array(["text"]),
        np.array([(1, 2.0)], dtype="i4,f4"),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([-1e308, 1e308]),
    ],
)
def test_what_cannot_be_encoded_is_a_signal_error(values: np.ndarray) -> None:
    with pytest.raises(SignalError) as caught:
        read(values)
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_never_loaded() -> None:
    with pytest.raises(SignalError, match="object"):
        read(np.array([{"a": 1}], dtype=object))


def test_the_limit_is_checked_from_the_header_alone() -> None:
    head = npy(np.zeros((2, 3)))[:128].replace(b"(2, 3)", b"(2000000, 3000000)").replace(b" " * 13, b" ", 1)
    with pytest.raises(LimitError, match="6,000,000,000,000"):
        array.read(head, max_samples=LIMIT)


def test_every_truncation_is_a_signal_error() -> None:
    data = npy(np.arange(12.0))
    for n in range(len(data)):
        with pytest.raises(SignalError):
            array.read(data[:n], max_samples=LIMIT)


def test_damaged_headers_raise_nothing_but_signal_and_limit_errors() -> None:
    data = npy(np.arange(12, dtype=np.uint8))
    generator = np.random.default_rng(0)
    for at in range(128):
        damaged = bytearray(data)
        damaged[at] = generator.integers(256)
        try:
            array.read(bytes(damaged), max_samples=10**6)
        except (SignalError, LimitError) as error:
            assert "\n" not in str(error)
