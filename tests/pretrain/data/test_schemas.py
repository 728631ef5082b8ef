"""What counts as written by the human, in records of each schema."""

import pytest

from pretrain.data.schemas import BadRecord, human_texts

SECRET = "my secret diary"


def sharegpt(*turns: tuple[str, object]) -> dict[str, object]:
    return {"conversations": [{"from": speaker, "value": value} for speaker, value in turns]}


def openai(*turns: tuple[str, object]) -> dict[str, object]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("record", "texts", "blank"),
    [
        (sharegpt(("human", " Hi! "), ("gpt", "Hello."), ("user", "Bye")), ["Hi!", "Bye"], 0),
        (sharegpt(("system", "Be nice"), ("gpt", "Hello."), ("tool", "3")), [], 0),
        (sharegpt(("human", "\n\t \u3000"), ("human", "x"), ("human", "")), ["x"], 2),
        (sharegpt(), [], 0),
        (sharegpt(("gpt", None), ("human", "x")), ["x"], 0),
        (openai(("system", "s"), ("user", "a\nb"), ("assistant", None), ("tool", "4")), ["a\nb"], 0),
        (openai(("user", [{"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "u"}},
                          {"type": "text", "text": "is it?"}])), ["what\nis it?"], 0),
        (openai(("user", [{"type": "image_url", "image_url": {}}])), [], 1),
        (openai(("user", [])), [], 1),
        ({"text": " plain ", "id": 3}, ["plain"], 0),
        ({"text": "  "}, [], 1),
        # Columnar readers fill absent columns with null.
        ({"conversations": None, "messages": None, "text": "t"}, ["t"], 0),
        ({**sharegpt(("human", "turn")), "text": "rendered"}, ["turn"], 0),
        # The case of a role is part of it: "Human" is nobody we know.
        (sharegpt(("Human", "x")), [], 0),
    ],
)  # fmt: skip
def test_human_turns(record: object, texts: list[str], blank: int) -> None:
    assert human_texts(record, "turn") == (texts, blank)


def test_a_conversation_is_its_human_turns_joined() -> None:
    record = sharegpt(("human", " one "), ("gpt", "x"), ("human", " "), ("human", "two"))
    assert human_texts(record, "conversation") == (["one\ntwo"], 1)
    assert human_texts(sharegpt(("human", " ")), "conversation") == ([], 1)
    assert human_texts({"text": "a\n\nb"}, "conversation") == (["a\n\nb"], 0)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (SECRET, "a record must be an object, this is a string"),
        ([SECRET], "a record must be an object, this is a list"),
        (None, "this is null"),
        (True, "this is a boolean"),
        (1.5, "this is a number"),
        ({}, "a record must have conversations, messages or text"),
        ({"prompt": SECRET}, "a record must have conversations, messages or text"),
        ({"text": None}, "text must not be null"),
        ({"text": None, "messages": None}, "messages and text must not be null"),
        ({"text": [SECRET]}, "text must be a string, this is a list"),
        ({"text": SECRET + "\ud800"}, "text is not Unicode: a lone surrogate at character 15"),
        ({"conversations": SECRET}, "conversations must be a list of turns, this is a string"),
        ({"conversations": {"from": ["human"]}}, "conversations must be a list of turns, this is an object"),
        ({"conversations": [SECRET]}, "conversations[0] must be an object, this is a string"),
        (sharegpt(("gpt", "x"), ("human", None)), "conversations[1].value must be a string, this is null"),
        (sharegpt(("human", 3)), "conversations[0].value must be a string, this is a number"),
        (sharegpt(("human", [SECRET])), "conversations[0].value must be a string, this is a list"),
        (sharegpt(("human", "\udfff")), "conversations[0].value is not Unicode"),
        ({"conversations": [{"value": SECRET}]}, "conversations[0].from must be a string, this is missing"),
        ({"conversations": [{"from": None}]}, "conversations[0].from must be a string, this is null"),
        ({"conversations": [{"from": "human"}]}, "conversations[0].value is missing"),
        (openai(("user", None)), "messages[0].content must be a string or a list of parts, this is null"),
        (openai(("user", {"text": SECRET})), "messages[0].content must be a string or a list"),
        (openai(("user", [SECRET])), "messages[0].content[0] must be an object, this is a string"),
        (openai(("user", [{"text": SECRET}])), "content[0].type must be a string, this is missing"),
        (openai(("user", [{"type": "text"}])), "messages[0].content[0].text must be a string, this is null"),
        (openai(("user", [{"type": "text", "text": "\ud800"}])), "content[0].text is not Unicode"),
    ],
)
def test_a_malformed_record_says_which_field_and_never_what_it_held(record: object, why: str) -> None:
    with pytest.raises(BadRecord) as caught:
        human_texts(record, "turn")
    assert why in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
