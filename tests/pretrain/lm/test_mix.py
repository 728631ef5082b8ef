"""Mix files are read strictly."""

from pathlib import Path

import pytest

from personality_common.errors import DataError
from pretrain.lm.data.mix import DEMO_MIX, read_mix

CORPUS = 'name = "talk"\nkind = "corpus"\npath = "talk.jsonl"\nlicence = "CC-BY-4.0"\n'
TOOLS = 'name = "tools"\nkind = "tools"\ndocuments = 10\n'


def mix(folder: Path, *sources: str, head: str = "version = 1\n") -> Path:
    path = folder / "mix.toml"
    path.write_text(head + "".join(f"[[sources]]\n{source}\n" for source in sources))
    return path


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    file = read_mix(mix(tmp_path, CORPUS, TOOLS))
    talk, tools = file.mix.sources
    assert (file.mix.seed, file.mix.split.validation, file.mix.split.test) == (0, 0.05, 0.05)
    assert (talk.group, talk.loss, talk.weight, talk.held_out, talk.under) == (
        "record", "assistant", 1.0, True, "CC-BY-4.0",
    )  # fmt: skip
    assert tools.under == "Apache-2.0"
    assert file.place(talk) == str(tmp_path / "talk.jsonl")


def test_a_hub_dataset_is_no_file(tmp_path: Path) -> None:
    file = read_mix(mix(tmp_path, CORPUS.replace("talk.jsonl", "hf:owner/name")))
    assert file.place(file.mix.sources[0]) == "hf:owner/name"


def test_the_mix_that_ships_needs_no_file() -> None:
    file = read_mix(DEMO_MIX)
    assert {source.kind for source in file.mix.sources} == {
        "tools", "perspectives", "reasoning", "self-description",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (CORPUS + "wieght = 2", r"sources\[0\].wieght is no key of a mix; keys are name, kind, path,"),
        (CORPUS + "weight = 0", r"sources\[0\]: weight must be above 0 and at most 100, is 0"),
        (CORPUS + "weight = nan", "weight must be finite"),
        (CORPUS + 'weight = "2"', r"sources\[0\].weight must be a number, is '2'"),
        (CORPUS + "documents = 0", "documents must be 1 or more, is 0"),
        (CORPUS + "documents = 1.5", "documents must be a whole number"),
        (CORPUS + 'group = "speaker"', "group must be record, file or field:NAME, is 'speaker'"),
        (CORPUS + 'group = "field:"', "group must be record, file or field:NAME"),
        (CORPUS + 'loss = "user"', "loss must be 'assistant' or 'all', is 'user'"),
        (CORPUS + 'assistant = "Ada"', "assistant is for self-description, this is corpus"),
        (CORPUS.replace("talk", "Talk", 1), "name must be of lower-case letters"),
        (CORPUS.replace("corpus", "novel"), "kind must be 'corpus' or 'tools' or .*, is 'novel'"),
        ('name = "x"\nkind = "corpus"\nlicence = "CC0-1.0"', "path must name a file, a folder or hf:"),
        ('name = "x"\nkind = "corpus"\npath = "x.jsonl"', "licence must say under which one"),
        ('name = "x"\nkind = "tools"', "documents must say how many tools to generate, is missing"),
        (TOOLS + 'path = "x"', "path is for a corpus, this is tools"),
        (TOOLS + "held_out = false", "held_out is for a corpus, this is tools"),
        ('kind = "tools"', r"sources\[0\] must have 'name'"),
    ],
)
def test_a_source_that_none_may_be_is_refused(source: str, message: str, tmp_path: Path) -> None:
    path = mix(tmp_path, source)
    with pytest.raises(DataError, match=message) as caught:
        read_mix(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("version = 2\n", "version must be 1, is 2"),
        ("", "it must have 'version'"),
        ("version = 1\nsede = 3\n", "sede is no key of a mix; keys are version, sources, seed, split, loss"),
        ("version = 1\nseed = -1\n", "seed must be 0 to"),
        ("version = 1\n[split]\ntset = 0.1\n", "split.tset is no key"),
        (
            "version = 1\n[split]\ntest = 0.6\n",
            "validation and test must be 0 or more and at most 0.5 together",
        ),
        ("version = 1\n[split]\ntest = -0.1\n", "validation and test must be 0 or more"),
        ("version = 1\n[split]\nmost = 0\n", "most must be 1 or more"),
        ("version = 1\n[loss]\nlast = 2.0\n", "loss.last is no key"),
        ("version = 1\n[loss]\nasked = -0.5\n", "asked must be 0 or more and at most 10"),
        ("version = 1\n[loss]\nfirst = 0.0\n", "first must be above 0 and at most 10"),
        ("version = \n", "not TOML: "),
        ("version = 1\nsplit = 3\n", "split must be an object, is 3"),
    ],
)
def test_a_mix_that_none_may_be_is_refused(head: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_mix(mix(tmp_path, TOOLS, head=head))


def test_sources_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="each source must have a name of its own, 'tools' is there twice"):
        read_mix(mix(tmp_path, TOOLS, CORPUS, TOOLS))
    with pytest.raises(DataError, match="it must have 'sources'"):
        read_mix(mix(tmp_path))
    with pytest.raises(DataError, match="sources must be one or more"):
        read_mix(mix(tmp_path, head="version = 1\nsources = []\n"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.toml: there is no such file"):
        read_mix(tmp_path / "none.toml")
