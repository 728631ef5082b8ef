"""A week as it is when it was lived, for pages and tables."""

from device_sim.week.state import ARMS, Asked, Day, Exchange, Morning, NightCame, Settings, Styled, Week
from device_sim.week.user import User


def lived_week() -> Week:
    """Of two days; what was answered is made up."""
    user = User(0, 2, 12)
    long = "An answer that goes on, and on, about what nobody asked for. " * 8
    known = {"neither": 0, "memory": 3, "adapter": 4, "both": 5, "served": 3}

    def day(number: int) -> Day:
        exchanges = tuple(
            Exchange(m.kind, m.said, long, f"t{i}", i % 6, None if m.kind == "tells" else i % 3 == 0, m.what,
                     f"One sentence. {user.sign_off(number)}" if i % 4 else None, 1 if i % 4 == 0 else None)
            for i, m in enumerate(user.day(number))
        )  # fmt: skip
        asked = tuple(
            Asked(f.what, q, user.value(f, number),
                  {arm: f"It is {user.value(f, number)}." if at < known[arm] else long for arm in ARMS})
            for at, f in enumerate(user.facts) for q in f.ask
        )  # fmt: skip
        arms = ("memory", "both", "served")
        styled = tuple(Styled(said, dict.fromkeys(arms, f"So. {user.sign_off(1)}")) for said in user.kept())
        night = NightCame(
            "refused" if number < 2 else "accepted", number, "a0001-0123456789ab", "a0000-0123456789ab",
            ("the capability suite may lose 21% (4 lost, 1 won, of 36); it must surely be less than 10%: "
             "'facts.capital-of-france' answered 'Tartu', before 'Paris'",) if number < 2 else (),
            ("gate.capability",), 34, 8, 20588, 1.05, (0.55, 0.5), 4, 1, 312.5,
        )  # fmt: skip
        nats = {"neither": 0.5, "adapter": 0.51 + 0.01 * number, "served": 0.5}
        return Day(number, exchanges, True, night, Morning(asked, styled, nats), 200.0)

    return Week(Settings(2, 12, 0, "smollm2", "short"), tuple(map(day, (1, 2))))
