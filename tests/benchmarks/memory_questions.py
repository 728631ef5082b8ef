"""Histories and questions about them, made by a grammar: what `bench_memory.py` asks.

What is asked shares as few words as possible with what was said: each slot has a wording for saying and one for
asking. Random numbers come from `random.Random` by seed, so that a seed gives the same questions everywhere.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from device_sim.companion.memory.evaluation import Question
from device_sim.companion.memory.sayings import Saying

CONVERSATIONS: Final = Path(__file__).parents[2] / "fixtures" / "conversations.jsonl"
USERS, ASKED_OF_EACH = 24, 6
EVENTS, ASKED = 2_400, 300

FACTS: Final = (
    # what is said of a value | what is asked | values
    ("We named our puppy {}.|The puppy answers to {}.", "What is my dog called?|How do I call my pet?",
     "Biscuit,Moss,Tolly,Pepper,Juno,Waffle"),
    ("I can't eat {}, my throat swells up.|One bite of {} and I need the ambulance.",
     "What food am I allergic to?|Which ingredient is dangerous for me?", "peanuts,shrimp,celery,sesame,kiwis,walnuts"),
    ("I grew up in {}.|I spent my first eighteen years in {}.",
     "Where did I live as a child?|What is my home town?", "Tromsø,Ghent,Porto,Kraków,Galway,Graz"),
    ("I drive an old {}.|My {} failed its inspection again.", "What car do I own?|Which vehicle do I have?",
     "Volvo,Fiat,Saab,Skoda,Renault,Toyota"),
    ("I've practised the {} since school.|Every evening I rehearse on my {}.",
     "Which musical instrument do I play?|What do I make music with?", "cello,oboe,accordion,trumpet,harp,banjo"),
    ("We got married in {}.|Our wedding was in {}.", "When is our anniversary?|In which month did I say yes?",
     "January,March,June,August,October,December"),
    ("I'm terrified of {}.|I scream when I see {}.", "What am I afraid of?|What is my phobia?",
     "spiders,heights,lifts,snakes,clowns,thunder"),
    ("I teach {} at a secondary school.|My pupils groan when I start with {}.",
     "Which subject do I give lessons in?|What do I tell my students about?",
     "chemistry,geography,Latin,biology,history,physics"),
    ("My sister works as a {}.|My sister has just qualified as a {}.",
     "What is my sibling's profession?|What does my sister do for a living?",
     "midwife,plumber,lawyer,florist,pilot,dentist"),
    ("I'm saving up for a trip to {}.|One day I'll fly to {}.",
     "Which country do I dream of visiting?|Where do I want to travel?",
     "Peru,Japan,Iceland,Kenya,Vietnam,Canada"),
    ("I'm learning {} with an app.|I struggle with the grammar of {}.",
     "Which language do I study?|What am I trying to speak?", "Finnish,Korean,Arabic,Welsh,Turkish,Greek"),
    ("I broke my {} last winter.|The doctors put a screw into my {}.",
     "Which bone did I injure?|Where was I fractured?", "wrist,ankle,collarbone,elbow,shin,thumb"),
    ("I've started growing {} on the balcony.|My {} are full of aphids.",
     "What do I plant at home?|Which vegetable do I raise?", "tomatoes,radishes,beans,peppers,courgettes,peas"),
    ("My boss is called {}.|I report to {} at the office.", "Who is my manager?|What is my supervisor's name?",
     "Harriet,Tobias,Yusuf,Ingrid,Marlene,Dominic"),
    ("I always order the {}.|Nothing beats {} for dinner.", "What dish do I like most?|What is my favourite meal?",
     "lasagne,ramen,goulash,paella,curry,risotto"),
    ("I swim {} lengths before work.|{} lengths, then I shower and go to the office.",
     "How far do I go in the pool?|How much do I swim?", "twenty,thirty,forty,fifty,sixty,eighty"),
    ("I take my coffee with {}.|Without {} I don't touch coffee.", "How do I like my morning drink?|What goes in my cup?",
     "oat milk,cinnamon,three sugars,cream,honey,cardamom"),
    ("I collect {}.|There are hundreds of {} on my shelves.", "What is my collection of?|What do I gather as a hobby?",
     "stamps,fossils,teapots,postcards,records,thimbles"),
    ("My landlord wants {} euros a month.|The flat costs {} euros.", "How much rent do I pay?|What does my apartment cost me?",
     "640,710,820,935,1050,1180"),
    ("I'm reading a novel about {}.|The book on my bedside table deals with {}.",
     "What story am I in the middle of?|What is my current book on?",
     "whalers,a lighthouse,twins,a heist,monks,the plague"),
    ("My son wants to become a {}.|My boy talks of nothing but being a {}.",
     "What is my child's dream job?|What will my kid be when he is grown?",
     "firefighter,astronaut,vet,magician,diver,baker"),
    ("I wear glasses since I was {}.|I got my first glasses at {}.", "At what age did I need spectacles?|How long have I seen badly?",
     "six,nine,eleven,fourteen,seventeen,twenty"),
    ("I volunteer at the {} on Sundays.|Sundays belong to the {}.", "Where do I help out for free?|What charity work do I do?",
     "food bank,animal shelter,library,hospice,museum,repair shop"),
    ("I vote for whoever protects {}.|I marched for {} in spring.", "Which cause do I care about?|What did I demonstrate for?",
     "rivers,tenants,bees,nurses,forests,cyclists"),
)  # fmt: skip

PEOPLE: Final = (
    ("mum", "mother"), ("dad", "father"), ("granny", "grandmother"), ("boss", "manager"),
    ("flatmate", "roommate"), ("husband", "spouse"), ("neighbour", "the man next door"),
    ("doctor", "physician"), ("coach", "trainer"), ("teacher", "instructor"), ("buddy", "best friend"),
    ("cousin", "relative"),
)  # fmt: skip
ACTIONS: Final = (
    ("dropped the phone", "damaged a mobile"), ("burned the toast", "ruined breakfast"),
    ("lost the keys", "could not unlock the door"), ("won the quiz", "came first in a trivia contest"),
    ("fixed the bike", "repaired a bicycle"), ("sang too loudly", "was noisy with a song"),
    ("found a kitten", "rescued a baby cat"), ("fell asleep", "took an unplanned nap"),
    ("told a ghost story", "frightened everybody with a tale"), ("spilled the wine", "made a stain with a drink"),
    ("forgot the tickets", "left the admission cards behind"), ("painted a mural", "made a picture on a wall"),
    ("got stung by a wasp", "was hurt by an insect"), ("baked bread", "made a loaf"),
    ("bought a drum kit", "paid for percussion"), ("missed the bus", "was too late for transport"),
    ("cut the power", "caused a blackout"), ("planted roses", "put flowers in the ground"),
    ("cheated at cards", "broke the rules of a game"), ("saw a fox", "spotted a wild animal"),
)  # fmt: skip
PLACES: Final = (
    ("at the seaside", "on the beach"), ("in the attic", "under the roof"), ("at the airport", "where planes leave"),
    ("in the cellar", "in the basement"), ("at church", "during the mass"), ("on the motorway", "on the highway"),
    ("at the wedding", "where a couple married"), ("in hospital", "at the clinic"), ("at the zoo", "near the cages"),
    ("in the forest", "among the trees"), ("at the office", "at work"), ("in the cinema", "while watching a film"),
)  # fmt: skip
OPENINGS: Final = ("Guess what:", "Yesterday", "So", "You won't believe it:", "Again", "This morning", "Funny:", "Well,")
ENDINGS: Final = (
    "and we laughed about it all evening", "which nobody had expected", "and I had to call for help",
    "so we went home early", "and it was raining, too", "but it ended well", "as if that were normal",
    "and now everybody knows", "while I was on the phone", "and I'm still shaking my head",
)  # fmt: skip
MARKS: Final = (
    ("the receipt says {}", "{} receipt"), ("the man was called {}", "{}"), ("the form was {}", "form {}"),
    ("the shop is {}'s", "{} shop"), ("the case number is {}", "case {}"), ("the street was {} Lane", "{} lane"),
)  # fmt: skip
SYLLABLES: Final = "bren,wick,tor,mal,den,ash,quil,ver,nox,ley,pim,har,stow,gil,fen,dra,kel,mun,rath,sey".split(",")


@dataclass(frozen=True)
class Asked:
    """What was said by all users, and what is asked, by kind: facts, natural, keywords."""

    said: list[Saying]
    questions: dict[str, list[Question]] = field(default_factory=dict)


def make(seed: int) -> Asked:
    """The histories and questions of a seed."""
    rng = random.Random(seed)
    asked = Asked([], {"facts": [], "natural": [], "keywords": []})
    talk = _small_talk(rng)
    for number in range(USERS):
        _facts(asked, f"user{number:02}", talk, rng)
    _events(asked, talk, rng)
    return asked


def _facts(asked: Asked, user: str, talk: list[str], rng: random.Random) -> None:
    said: list[tuple[str, str | None]] = [(text, None) for text in rng.sample(talk, 30)]
    chosen = set(rng.sample(range(len(FACTS)), ASKED_OF_EACH))
    for number, (sayings, questions, values) in enumerate(FACTS):
        text = rng.choice(sayings.split("|")).format(rng.choice(values.split(",")))
        question = rng.choice(questions.split("|"))
        said.append((text[0].upper() + text[1:], question if number in chosen else None))
    for text, question_or_none in rng.sample(said, len(said)):
        turn = _say(asked, user, text)
        if question_or_none is not None:
            asked.questions["facts"].append(Question(question_or_none, turn, user))


def _events(asked: Asked, talk: list[str], rng: random.Random) -> None:
    combinations = [(p, a, o) for p in PEOPLE for a in ACTIONS for o in PLACES]
    chosen = rng.sample(combinations, EVENTS)
    said: list[tuple[str, str | None, str | None]] = [(text, None, None) for text in talk]
    for number, (person, action, place) in enumerate(chosen):
        text = f"{rng.choice(OPENINGS)} my {person[0]} {action[0]} {place[0]}, {rng.choice(ENDINGS)}."
        who = person[1] if person[1].startswith("the ") else f"my {person[1]}"
        natural = f"When was it that {who} {action[1]} {place[1]}?" if number < ASKED else None
        keywords = None
        if ASKED <= number < 3 * ASKED:
            mark, words = rng.choice(MARKS)
            name = _name(rng)
            text = f"{text[:-1]}; {mark.format(name)}."
            keywords = words.format(name) if number < 2 * ASKED else None
        said.append((text, natural, keywords))
    for text, natural, keywords in rng.sample(said, len(said)):
        turn = _say(asked, "storyteller", text)
        for kind, question in (("natural", natural), ("keywords", keywords)):
            if question is not None:
                asked.questions[kind].append(Question(question, turn, "storyteller"))


def _say(asked: Asked, user: str, text: str) -> str:
    number = len(asked.said)
    minutes, hours = number % 60, number // 60
    time = f"2026-{1 + hours // 24 // 28:02}-{1 + hours // 24 % 28:02}T{hours % 24:02}:{minutes:02}:00.000Z"
    asked.said.append(Saying(f"turn{number:06}", text, user, time, "user"))
    return asked.said[-1].turn


def _name(rng: random.Random) -> str:
    """A word that nobody has seen, or a number like those on forms."""
    if rng.random() < 0.5:
        return "".join(rng.sample(SYLLABLES, 3)).capitalize()
    return f"{rng.choice('ABCDEFGHKLMNPRSTVWXZ')}{rng.choice('ABCDEFGHKLMNPRSTVWXZ')}{rng.randrange(1_000, 10_000)}"


def _small_talk(rng: random.Random) -> list[str]:
    """The human turns of the project's conversations, each once, in an order of its own."""
    turns = {
        turn["value"]
        for line in CONVERSATIONS.read_text(encoding="utf-8").splitlines()
        for turn in json.loads(line)["conversations"]
        if turn["from"] == "human"
    }
    return rng.sample(sorted(turns), len(turns))
