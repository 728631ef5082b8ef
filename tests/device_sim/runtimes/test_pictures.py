"""`pt run` on PNG and JPEG files: pixels, scales and biases by hand; and files that lie about themselves."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil_specs import save, spec
from PIL import Image, ImageFile

from device_sim.runtimes.config import RunConfig
from device_sim.runtimes.pictures import read_picture
from device_sim.runtimes.running import run_package
from personality_common.coreml.features import Feature
from personality_common.errors import DataError

SPACES = {"gray": 10, "rgb": 20, "bgr": 30}
"""`ColorSpace` of FeatureTypes.proto."""
COLOR = np.array([[[255, 0, 10], [1, 2, 3], [40, 50, 60]], [[0, 255, 20], [4, 5, 6], [70, 80, 90]]], np.uint8)
"""2 rows of 3 pixels, red, green, blue."""
GRAY = np.array([[0, 128, 255], [1, 2, 3]], np.uint8)
RGB = Feature("photo", "image", "rgb", (2, 3))
ANY = Feature("photo", "image", "rgb", (2, 3), ranges=((1, None), (1, None)))


def network(*inputs: tuple[str, str]) -> Any:
    """Images of 2 x 3, given by name and color space: each is scaled by 2, biased, and given as an array."""
    model = spec({}, {})
    for name, space in inputs:
        image = model.description.input.add(name=name).type.imageType
        image.height, image.width, image.colorSpace = 2, 3, SPACES[space]
        array = model.description.output.add(name=f"{name}_seen").type.multiArrayType
        array.dataType = 65568
        array.shape.extend([1 if space == "gray" else 3, 2, 3])
        scaler = model.neuralNetwork.preprocessing.add(featureName=name).scaler
        scaler.channelScale = 2
        scaler.redBias, scaler.greenBias, scaler.blueBias, scaler.grayBias = 0.25, 0.5, 0.75, -1
        layer = model.neuralNetwork.layers.add(name=name, input=[name], output=[f"{name}_seen"])
        layer.activation.linear.alpha = 1
    return model


def png(path: Path, pixels: Any, mode: str | None = None) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, "PNG")
    return path


def seen(tmp_path: Path, model: Any, given: str | Path) -> Any:
    run_package(RunConfig(save(tmp_path / "m.mlmodel", model), Path(given), tmp_path / "out.json"))
    found = json.loads((tmp_path / "out.json").read_text())
    return {name: np.array(value) for name, value in found.items()}


def test_scale_and_bias_of_each_color_space(tmp_path: Path) -> None:
    red, green, blue = (2.0 * COLOR[..., at] + bias for at, bias in enumerate((0.25, 0.5, 0.75)))
    assert red[0].tolist() == [510.25, 2.25, 80.25]
    given = png(tmp_path / "p.png", COLOR)
    found = seen(tmp_path, network(("photo", "rgb")), given)
    np.testing.assert_array_equal(found["photo_seen"], [red, green, blue])
    found = seen(tmp_path, network(("photo", "bgr")), given)
    np.testing.assert_array_equal(found["photo_seen"], [blue, green, red])
    found = seen(tmp_path, network(("photo", "gray")), png(tmp_path / "g.png", GRAY))
    np.testing.assert_array_equal(found["photo_seen"], [2.0 * GRAY - 1])
    # A gray picture is a color picture of equal channels; the other way needs a choice of weights.
    found = seen(tmp_path, network(("photo", "bgr")), tmp_path / "g.png")
    np.testing.assert_array_equal(found["photo_seen"], [2.0 * GRAY + bias for bias in (0.75, 0.5, 0.25)])
    with pytest.raises(DataError, match="image 'photo' must be gray, its mode is RGB"):
        seen(tmp_path, network(("photo", "gray")), given)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "1"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    """Pixels that every mode can hold: black and white."""
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 1] = 255
    found = read_picture(png(tmp_path / "p.png", pixels, mode), RGB)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels.transpose(2, 0, 1))


def test_jpeg(tmp_path: Path) -> None:
    """A patch of one color survives the compression but for the rounding of its color space."""
    Image.new("RGB", (3, 2), (200, 100, 50)).save(tmp_path / "p.JPG", "JPEG", quality=100)
    found = read_picture(tmp_path / "p.JPG", RGB)
    np.testing.assert_allclose(found, np.broadcast_to([[[200]], [[100]], [[50]]], (3, 2, 3)), atol=2)
    Image.new("CMYK", (3, 2)).save(tmp_path / "p.JPG", "JPEG")
    with pytest.raises(DataError, match="must be in color or gray, of 8 bits, its mode is CMYK"):
        read_picture(tmp_path / "p.JPG", RGB)


def test_images_of_rows(tmp_path: Path) -> None:
    model = network(("photo", "rgb"), ("mask", "gray"))
    png(tmp_path / "a.png", COLOR)
    png(tmp_path / "g.png", GRAY)
    (tmp_path / "in.csv").write_text("photo,mask\na.png,g.png\ng.png,g.png\n")
    run_package(RunConfig(save(tmp_path / "m.mlmodel", model), tmp_path / "in.csv", tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert found["photo_seen"].shape == (2, 3, 2, 3)
        np.testing.assert_array_equal(found["photo_seen"][0, 0], 2.0 * COLOR[..., 0] + 0.25)
        np.testing.assert_array_equal(found["mask_seen"], [[2.0 * GRAY - 1]] * 2)
    for row, words in [
        ({"photo": "../a.png", "mask": "g.png"}, "a path must stay inside of it"),
        ({"photo": "absent.png", "mask": "g.png"}, "there is no such file"),
        ({"photo": [[1]], "mask": "g.png"}, "'photo' must be the name of an image beside the rows, got list"),
        ({"mask": "g.png"}, "must hold 'photo'; it holds mask"),
    ]:
        (tmp_path / "in.json").write_text(json.dumps(row))
        with pytest.raises(DataError, match=words):
            seen(tmp_path, model, tmp_path / "in.json")
    with pytest.raises(DataError, match="an image is for a model with one image input, this has 2"):
        seen(tmp_path, model, tmp_path / "a.png")


def test_an_image_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    png(tmp_path / "a.png", COLOR)
    found = seen(tmp_path, network(("photo", "rgb")), "photo=a.png")
    assert found["photo_seen"].shape == (3, 2, 3)
    with pytest.raises(DataError, match="there is no such file, and the model has no image input 'picture'"):
        seen(tmp_path, network(("photo", "rgb")), "picture=a.png")


def png_bytes(width: int, height: int, depth: int, color: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG that says this of itself."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), *chunks, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


NOTHING = (b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("side", [9_000, 10_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_never_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int
) -> None:
    """Below, between and above the sizes at which Pillow warns and refuses."""
    decoded: list[Any] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: decoded.append(image))
    (tmp_path / "p.png").write_bytes(png_bytes(side, side, 1, 0, NOTHING))
    with pytest.raises(DataError, match=r"67,108,864 pixels"):
        read_picture(tmp_path / "p.png", ANY)
    with pytest.raises(DataError, match=r"67,108,864 pixels"):
        read_picture(tmp_path / "p.png", RGB)
    assert not decoded


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    with (tmp_path / "p.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="an image may have 67,108,864 bytes, this has 67,108,865"):
        read_picture(tmp_path / "p.png", RGB)


def test_texts_that_unpack_to_more_than_memory_are_refused(tmp_path: Path) -> None:
    text = (b"zTXt", b"note\0\0" + zlib.compress(b"x" * (8 << 20)))
    (tmp_path / "p.png").write_bytes(png_bytes(3, 2, 8, 2, text, NOTHING))
    assert (tmp_path / "p.png").stat().st_size < 10_000
    with pytest.raises(DataError, match="not a readable image: Decompressed data too large"):
        read_picture(tmp_path / "p.png", RGB)


def test_wrong_size_and_no_image(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(whole, "JPEG")
    square = Feature("photo", "image", "rgb", (64, 64))
    (tmp_path / "whole.jpg").write_bytes(whole.getvalue())
    assert read_picture(tmp_path / "whole.jpg", square).shape == (3, 64, 64)
    bitmap = io.BytesIO()
    Image.new("RGB", (3, 2)).save(bitmap, "BMP")
    deep = np.zeros((2, 3), np.uint16)
    for name, content, words in [
        (
            "a.jpg",
            whole.getvalue(),
            r"must be \(2, 3\) \(height, width\), .* is \(64, 64\); resize it before",
        ),
        ("a.png", b"length,width\n1,2\n", "must be a PNG or JPEG image, is none"),
        ("a.png", b"", "must be a PNG or JPEG image, is none"),
        ("a.png", bitmap.getvalue(), "must be a PNG or JPEG image, is none"),
        ("a.png", png_bytes(3, 2, 8, 2, NOTHING), "not a readable image"),
        ("a.png", png_bytes(3, 2, 8, 2), "not a readable image"),
        ("a.png", png(tmp_path / "deep.png", deep).read_bytes(), "of 8 bits, its mode is I;16"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_picture(tmp_path / name, RGB)
    (tmp_path / "cut.jpg").write_bytes(whole.getvalue()[:-200])
    with pytest.raises(DataError, match="not a readable image: image file is truncated"):
        read_picture(tmp_path / "cut.jpg", square)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "MPO"])
def test_flipped_bytes_give_pixels_or_an_error(tmp_path: Path, form: str) -> None:
    whole, rng = io.BytesIO(), np.random.default_rng(0)
    image = Image.fromarray(COLOR)
    more: dict[str, Any] = {"save_all": True, "append_images": [image]} if form == "MPO" else {}
    image.save(whole, form, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0", **more)
    refused = 0
    for _ in range(300):
        content = bytearray(whole.getvalue())
        for _ in range(int(rng.integers(1, 4))):
            content[rng.integers(len(content))] = int(rng.integers(256))
        (tmp_path / "p.png").write_bytes(content[: len(content) - int(rng.integers(4)) * 20])
        try:
            assert read_picture(tmp_path / "p.png", RGB).shape == (3, 2, 3)
        except DataError:
            refused += 1
    assert 25 < refused < 300
