"""No cell of a data set becomes something else: it is read as it was written, or refused."""

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
from PIL import Image

from luminanet.errors import DataError
from training.data.datasets import LABELS, load_images, load_stories
from training.data.tables import Columns

STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
TEXTS = ["A cat.\n", "", "Un caf\N{LATIN SMALL LETTER E WITH ACUTE}, \N{SNOWMAN}."]
NOT_UTF8 = pyarrow.StringArray.from_buffers(
    2, pyarrow.py_buffer(np.array([0, 1, 6], "<i4")), pyarrow.py_buffer(b"aabc\xff\xfe")
)


def png(mode: str = "RGB", size: tuple[int, int] = (32, 32), colour: Any = None) -> bytes:
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).convert("RGB")
    (Image.new(mode, size, colour) if colour is not None else image.convert(mode)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


PNG = png()


def cells(*data: bytes | None) -> pyarrow.Array:
    return pyarrow.array([{"bytes": one, "path": "a.png"} for one in data], STRUCT)


def written(folder: Path, **columns: Any) -> Path:
    path = folder / "train.parquet"
    pq.write_table(pyarrow.table(columns), path)
    return path


def text_of(folder: Path, array: Any) -> list[str]:
    written(folder, text=array)
    return load_stories(folder, "train")


def refused(folder: Path, row: int, column: str, says: str) -> None:
    load = load_stories if column == "text" else load_images
    with pytest.raises(DataError) as caught:
        load(folder, "train")
    message = str(caught.value)
    assert message.startswith(f"{folder / 'train.parquet'}, row {row}, column {column}: ")
    assert says in message
    assert "\n" not in message


# ---------------------------------------------------------------------- stories


@pytest.mark.parametrize(
    "kind", ["string", "large_string", "string_view", "binary", "large_binary", "binary_view"]
)
def test_text_of_any_string_or_bytes_type_is_the_same_text(tmp_path: Path, kind: str) -> None:
    assert text_of(tmp_path, pyarrow.array(TEXTS).cast(kind)) == TEXTS


@pytest.mark.parametrize("kind", ["string", "binary"])
def test_text_in_a_dictionary_is_the_same_text(tmp_path: Path, kind: str) -> None:
    array = pyarrow.array([*TEXTS, *TEXTS]).cast(kind).dictionary_encode()
    assert text_of(tmp_path, array) == [*TEXTS, *TEXTS]


def test_null_stories_are_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text_of(tmp_path, pyarrow.array([None, "A cat.", None])) == ["A cat."]
    assert capsys.readouterr().err == "rows that hold null and no story, left out: 2\n"
    assert text_of(tmp_path, pyarrow.array(["A cat."])) == ["A cat."]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pyarrow.array([{"a": 1}]), "struct<a: int64>"),
        (pyarrow.array([["a"]]), "list<"),
        (pyarrow.array([1.5]), "double (1.5)"),
        (pyarrow.array([7]), "int64 (7)"),
        (pyarrow.array([True]), "bool"),
        (pyarrow.array([None, None]), "null"),
        (pyarrow.array([b"abc"], pyarrow.binary(3)), "fixed_size_binary"),
        (pyarrow.array([0], pyarrow.date32()), "date32"),
        (pyarrow.array([5, 6]).dictionary_encode(), "int64 (5)"),
    ],
)
def test_columns_that_are_not_text_are_refused(tmp_path: Path, array: Any, kind: str) -> None:
    written(tmp_path, text=array)
    refused(tmp_path, 0, "text", f"holds {kind}")
    refused(tmp_path, 0, "text", "not text: save it as strings")


@pytest.mark.parametrize("array", [NOT_UTF8, pyarrow.array([b"a", b"abc\xff\xfe"])])
def test_bytes_that_are_not_utf_8_are_refused(tmp_path: Path, array: Any) -> None:
    written(tmp_path, text=array)
    refused(tmp_path, 1, "text", "not UTF-8 ('utf-8' codec can't decode byte 0xff in position")


def test_a_bad_story_of_a_later_batch_is_told_with_its_row_in_the_file(tmp_path: Path) -> None:
    texts = [b"a cat"] * 2500
    texts[2345] = b"\xff"
    pq.write_table(pyarrow.table({"text": texts}), tmp_path / "train.parquet", row_group_size=700)
    refused(tmp_path, 2345, "text", "not UTF-8")


# ---------------------------------------------------------------------- pictures


def test_pictures_are_read_from_the_hubs_struct_and_from_plain_bytes(tmp_path: Path) -> None:
    plain = pyarrow.array([PNG, PNG])
    expected = np.asarray(Image.open(io.BytesIO(PNG)))
    for array in (cells(PNG, PNG), plain, plain.cast("large_binary"), plain.cast("binary_view")):
        written(tmp_path, img=array, label=[3, 4])
        found = load_images(tmp_path, "train")
        assert np.array_equal(found.pixels_NCYX[1].transpose(1, 2, 0), expected)
        assert found.labels_N.tolist() == [3, 4]


def test_a_grey_or_palette_picture_keeps_its_colours(tmp_path: Path) -> None:
    written(tmp_path, img=cells(png("L"), png("P")), label=[0, 1])
    found = load_images(tmp_path, "train").pixels_NCYX
    for number, mode in enumerate(("L", "P")):
        expected = np.asarray(Image.open(io.BytesIO(png(mode))).convert("RGB"))
        assert np.array_equal(found[number].transpose(1, 2, 0), expected)


@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 0, 255, 0), (9, 200, 90, 0)])
def test_what_is_transparent_is_white_whatever_colour_is_hidden(
    tmp_path: Path, colour: tuple[int, ...]
) -> None:
    image = Image.new("RGBA", (32, 32), colour)
    image.putpixel((5, 6), (10, 20, 30, 255))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    written(tmp_path, img=cells(buffer.getvalue()), label=[0])
    pixels = load_images(tmp_path, "train").pixels_NCYX[0]
    assert pixels[:, 6, 5].tolist() == [10, 20, 30]
    pixels[:, 6, 5] = 255
    assert (pixels == 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_colour_that_a_picture_declares_transparent_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.open(io.BytesIO(PNG)).convert("L").convert(mode)
    see_through = image.getpixel((3, 4))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=see_through)
    written(tmp_path, img=cells(buffer.getvalue()), label=[0])
    found = load_images(tmp_path, "train").pixels_NCYX[0].transpose(1, 2, 0)
    expected = np.asarray(image.convert("RGB")).copy()
    hidden = (expected == expected[4, 3]).all(-1)
    expected[hidden] = 255
    assert hidden[4, 3]
    assert not hidden.all()
    assert np.array_equal(found, expected)


def test_a_picture_is_turned_upright(tmp_path: Path) -> None:
    image, exif = Image.open(io.BytesIO(PNG)), Image.Exif()
    exif[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    written(tmp_path, img=cells(buffer.getvalue()), label=[0])
    found = load_images(tmp_path, "train").pixels_NCYX[0].transpose(1, 2, 0)
    assert np.array_equal(found, np.asarray(image)[::-1, ::-1])


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def animated() -> bytes:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def quiet_flip() -> bytes:
    """A PNG whose pixels are other than its check sums say, though they can be decompressed."""
    start = PNG.index(b"IDAT") + 4
    size = int.from_bytes(PNG[start - 8 : start - 4], "big")
    pixels = bytearray(zlib.decompress(PNG[start : start + size]))
    pixels[100] ^= 64
    packed = zlib.compress(bytes(pixels))
    head = PNG[: start - 8] + len(packed).to_bytes(4, "big") + b"IDAT"
    return head + packed + PNG[start + size :]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (None, "the picture is null"),
        (b"", "none of PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM, or damaged"),
        (b"no picture", "none of PNG, JPEG"),
        (PNG[:40], "damaged"),
        (PNG[: len(PNG) // 2], "damaged"),
        (PNG[:-6], "damaged"),
        (flipped(PNG, len(PNG) // 2), "damaged"),
        (quiet_flip(), "damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n", "none of PNG"),
        (png(size=(28, 28)), "has 28 x 28 pixels, not 32 x 32"),
        (png(size=(32, 33)), "has 32 x 33 pixels"),
        (png("I;16", colour=40_000), "pixels of kind I;16: save it as 8-bit RGB"),
        (animated(), "several pictures"),
    ],
)
def test_pictures_that_are_not_whole_or_do_not_fit_are_refused(
    tmp_path: Path, cell: bytes | None, says: str
) -> None:
    written(tmp_path, img=cells(PNG, cell), label=[0, 1])
    refused(tmp_path, 1, "img", says)


def test_a_null_cell_is_refused_as_null_bytes_are(tmp_path: Path) -> None:
    written(tmp_path, img=pyarrow.array([cells(PNG)[0].as_py(), None], STRUCT), label=[0, 1])
    refused(tmp_path, 1, "img", "the picture is null")


def test_a_cut_jpeg_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PNG)).save(buffer, "JPEG")
    written(tmp_path, img=cells(buffer.getvalue(), buffer.getvalue()[:-40]), label=[0, 1])
    refused(tmp_path, 1, "img", "damaged")


@pytest.mark.parametrize(
    "array",
    [
        pyarrow.array(["a.png"]),
        pyarrow.array([{"path": "a.png"}]),
        pyarrow.array([[1, 2, 3]]),
        pyarrow.array([{"bytes": "text"}]),
        pyarrow.array([None]),
    ],
)
def test_columns_that_are_not_pictures_are_refused(tmp_path: Path, array: Any) -> None:
    written(tmp_path, img=array, label=[0])
    refused(tmp_path, 0, "img", "not pictures: save the bytes of PNG files")


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("kind", [f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)])
def test_labels_of_any_whole_type_are_read(tmp_path: Path, kind: str) -> None:
    labels = pyarrow.array([9, 0]).cast(kind)
    for array in (labels, labels.dictionary_encode()):
        written(tmp_path, img=cells(PNG, PNG), label=array)
        assert load_images(tmp_path, "train").labels_N.tolist() == [9, 0]


@pytest.mark.parametrize(
    ("label", "says"),
    [(None, "null"), (-1, "-1"), (10, "10"), (2**63 - 1, "9223372036854775807")],
)
def test_a_label_that_names_no_class_is_refused(
    tmp_path: Path, label: int | None, says: str
) -> None:
    written(tmp_path, img=cells(PNG, PNG), label=pyarrow.array([3, label], pyarrow.int64()))
    refused(tmp_path, 1, "label", f"the label is {says}, not one of 0 to 9")


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pyarrow.array([6.9]), "double (6.9)"),
        (pyarrow.array([6.0]), "double (6.0)"),
        (pyarrow.array(["cat"]), "string ('cat')"),
        (pyarrow.array([True]), "bool (True)"),
        (pyarrow.array([6]).cast(pyarrow.decimal128(20)), "decimal128(20, 0)"),
        (pyarrow.array([6], pyarrow.date32()), "date32"),
        (pyarrow.array([[6]]), "list<"),
        (pyarrow.array(["cat"]).dictionary_encode(), "dictionary<values=string"),
        (pyarrow.array([None]), "null"),
    ],
)
def test_labels_that_are_not_whole_numbers_are_refused(
    tmp_path: Path, array: Any, kind: str
) -> None:
    written(tmp_path, img=cells(PNG), label=array)
    refused(tmp_path, 0, "label", f"holds {kind}")
    refused(tmp_path, 0, "label", "not whole numbers: save them as integers of 0 to 9")


# ---------------------------------------------------------------------- files and columns


def test_a_set_without_a_row_is_refused(tmp_path: Path) -> None:
    empty = pyarrow.array([], pyarrow.int64())
    path = written(tmp_path, img=pyarrow.array([], STRUCT), label=empty)
    with pytest.raises(DataError, match=rf"there is no picture in {path}"):
        load_images(tmp_path, "train")


def test_a_file_without_row_groups_beside_others_is_as_good_as_none(tmp_path: Path) -> None:
    written(tmp_path, img=cells(PNG), label=[5])
    schema = pq.read_schema(tmp_path / "train.parquet")
    pq.ParquetWriter(tmp_path / "train-2.parquet", schema).close()
    assert pq.ParquetFile(tmp_path / "train-2.parquet").num_row_groups == 0
    assert load_images(tmp_path, "train").labels_N.tolist() == [5]


@pytest.mark.parametrize("names", [("img", "label"), ("image", "labels"), ("img", "fine_label")])
def test_columns_are_found_by_the_names_they_have_on_the_hub(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    written(tmp_path, **{names[0]: cells(PNG), names[1]: [7], "coarse_label": [1]})
    assert load_images(tmp_path, "train").labels_N.tolist() == [7]


@pytest.mark.parametrize("name", ["text", "story", "content"])
def test_stories_are_found_by_the_names_they_have_on_the_hub(tmp_path: Path, name: str) -> None:
    written(tmp_path, **{name: ["A cat."], "title": ["Cats"]})
    assert load_stories(tmp_path, "train") == ["A cat."]


def test_columns_of_other_names_are_given(tmp_path: Path) -> None:
    path = written(
        tmp_path, img=cells(b"no"), **{"a.b": cells(PNG)}, label=[1], kind=[2], t=["A cat."]
    )
    columns = Columns(image="a.b", label="kind", text="t")
    assert load_images(tmp_path, "train", columns).labels_N.tolist() == [2]
    assert load_stories(tmp_path, "train", columns) == ["A cat."]
    with pytest.raises(DataError) as caught:
        load_stories(tmp_path, "train", Columns(text="words"))
    assert str(caught.value) == (
        f"{path} has no column words for the stories: name one of its columns "
        "(img, a.b, label, kind, t) with --text-column"
    )


def test_several_columns_that_could_be_meant_are_a_clear_error(tmp_path: Path) -> None:
    path = written(tmp_path, img=cells(PNG), image=cells(PNG), label=[0])
    with pytest.raises(DataError) as caught:
        load_images(tmp_path, "train")
    assert str(caught.value) == (
        f"{path} has several columns img or image for the images: name one of its columns "
        "(img, image, label) with --image-column"
    )
    assert len(load_images(tmp_path, "train", Columns(image="image"))) == 1


def hub(folder: Path, features: Any) -> None:
    table = pyarrow.table({"img": cells(PNG), "label": [3]})
    told = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(told), folder / "train.parquet")


def test_classes_are_called_what_the_file_calls_them(tmp_path: Path) -> None:
    digits = [f"digit {number}" for number in range(10)]
    hub(tmp_path, {"label": {"names": digits, "_type": "ClassLabel"}})
    assert load_images(tmp_path, "train").names == tuple(digits)
    for features in ({}, {"label": {"_type": "Value"}}, {"label": {"names": None}}, 7):
        hub(tmp_path, features)
        assert load_images(tmp_path, "train").names == LABELS
    hub(tmp_path, {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}})
    with pytest.raises(DataError, match="tells 2 classes apart, and these networks tell 10"):
        load_images(tmp_path, "train")


def test_two_files_that_call_their_classes_otherwise_are_refused(tmp_path: Path) -> None:
    hub(tmp_path, {"label": {"names": [f"digit {number}" for number in range(10)]}})
    written(tmp_path, img=cells(PNG), label=[3]).rename(tmp_path / "train-2.parquet")
    hub(tmp_path, {"label": {"names": [f"digit {number}" for number in range(10)]}})
    with pytest.raises(DataError, match="calls its classes otherwise"):
        load_images(tmp_path, "train")


def test_a_folder_of_parts_is_a_split(tmp_path: Path) -> None:
    """As Spark writes it."""
    folder = tmp_path / "train.parquet"
    folder.mkdir()
    for number, text in enumerate((b"A cat.", b"A dog.")):
        part = folder / f"part-0000{number}-c000.snappy.parquet"
        pq.write_table(pyarrow.table({"text": [text]}), part)
    (folder / "_SUCCESS").touch()
    assert load_stories(tmp_path, "train") == ["A cat.", "A dog."]


def test_a_page_with_a_wrong_check_sum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    table = pyarrow.table({"text": ["once upon a time there was a cat"] * 3})
    pq.write_table(
        table,
        path,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(b"upon")))
    with pytest.raises(DataError, match=f"{path} .*(?i:crc|check ?sum)"):
        load_stories(tmp_path, "train")


def test_a_column_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pyarrow.table({"te_xt": ["A cat."]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"te_xt", b"te\xffxt"))
    with pytest.raises(DataError, match=f"{path} has a column whose name is not UTF-8"):
        load_stories(tmp_path, "train")


@pytest.mark.parametrize("content", [b"", b"no parquet", b"PAR1 and PAR1"])
def test_what_is_no_parquet_file_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.parquet is no whole Parquet file: ") as caught:
        load_stories(tmp_path, "train")
    assert "\n" not in str(caught.value)
