"""The threat models of attacks: as columns of rows, of configurations, and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from mwm.attacks.base import AttackRecord
from mwm.attacks.threat import ThreatModel
from mwm.runner.reporting.groups.configurations import Configuration, Groups, Members
from mwm.runner.reporting.groups.measures import present

THREAT = "threat."
"""How the columns of a threat model begin."""

COMPARABLE = (
    "attacks of one threat model agree in access, true labels, answers, whose images they have, start and adaptation; "
    "how many images and calls they had is shown, and need not be equal"
)
"""What is equal where attacks are compared, and what is not."""

SPENT = ("attacker_images", "oracle_calls")
"""What attacks of one threat model may differ in: the images that they hold, and those that they had answered."""

ENDS = (("least", min), ("most", max))


class Knowledge(NamedTuple):
    """What attacks stand together by, where there are many: the access, the true labels, and the form of answers."""

    access: str
    true_labels: bool
    answers: str

    @classmethod
    def of(cls, threat: ThreatModel) -> Knowledge:
        """That of a threat model."""
        return cls(threat.access, threat.true_labels, threat.answers)

    def __str__(self) -> str:
        return _joined(self.access, _answers(self.answers), _labels(self.true_labels))


def threat_columns(threat: ThreatModel | None) -> dict[str, Any]:
    """The columns of a threat model; none where there is no attack. What is not used is None."""
    told = {} if threat is None else asdict(threat)
    return {f"{THREAT}{name}": None if value == "" else value for name, value in told.items()}


def threat_model(attack: AttackRecord | None) -> ThreatModel | None:
    """The threat model of a record; None of a victim."""
    return None if attack is None else attack.threat_model()


def threats(groups: Groups) -> dict[Configuration, ThreatModel]:
    """The threat model of each attack; rows of earlier releases tell none."""
    found: dict[Configuration, ThreatModel] = {}
    for (_, attack), members in groups.items():
        if attack is not None and attack not in found and (threat := threat_of(members)) is not None:
            found[attack] = threat
    return found


def threat_of(members: Members) -> ThreatModel | None:
    """The threat model of rows of one attack, if they tell it."""
    row = next((row for row in members if row.get(f"{THREAT}access") is not None), None)
    if row is None:
        return None
    told: dict[str, Any] = {one.name: row.get(f"{THREAT}{one.name}") for one in fields(ThreatModel)}
    told = {name: "" if value is None else value for name, value in told.items()}
    return ThreatModel(**told)


def rows_of_attacks(groups: Groups) -> dict[Configuration, Members]:
    """The rows of each attack, of all victims."""
    found: dict[Configuration, list[Mapping[str, Any]]] = {}
    for (_, attack), members in groups.items():
        if attack is not None:
            found.setdefault(attack, []).extend(members)
    return dict(found)


def rows_of_threats(groups: Groups) -> dict[ThreatModel, Members]:
    """The rows of all attacks of each threat model, of all victims, in the order of `threat_order`."""
    told, found = threats(groups), dict[ThreatModel, list[Mapping[str, Any]]]()
    for attack, members in rows_of_attacks(groups).items():
        if attack in told:
            found.setdefault(told[attack], []).extend(members)
    return {threat: found[threat] for threat in sorted(found, key=threat_order)}


def threat_order(threat: ThreatModel) -> tuple[object, ...]:
    """The place of a threat model among others: by access, true labels and answers first."""
    return (*Knowledge.of(threat), threat.images, threat.start, threat.adaptive)


def threat_words(threat: ThreatModel, members: Members = ()) -> str:
    """A threat model in words, with the number of images and of calls of attackers, if their rows are given."""
    adaptive = f"adaptive: {threat.adaptive}" if threat.adaptive else ""
    spent = images_words(threat, members), calls_words(members)
    return _joined(str(Knowledge.of(threat)), *spent, f"start: {threat.start}", adaptive)


def calls_words(members: Members) -> str:
    """How many images attackers had answered; empty where nobody was asked."""
    count = extent(present(members, "oracle_calls"))
    return f"{count} call{'s' * (count != '1')}" if count else ""


def images_words(threat: ThreatModel, members: Members = ()) -> str:
    """Whose images an attacker has, and how many."""
    if threat.images == "none":
        return "no images"
    count = extent(present(members, "attacker_images"))
    return f"{count} {threat.images} images" if count else f"{threat.images} images"


def spent_columns(members: Members) -> dict[str, float]:
    """The least and the most images that attackers hold, and calls that they spend, as columns."""
    told = {name: present(members, name) for name in SPENT}
    return {f"{name}_{end}": of(found) for name, found in told.items() if found for end, of in ENDS}


def extent(numbers: Sequence[float]) -> str:
    """A number, or from the least to the largest; empty if there is none."""
    ends = dict.fromkeys(f"{end:,.0f}" for end in (min(numbers), max(numbers))) if numbers else {}
    return "–".join(ends)


def _answers(answers: str) -> str:
    return f"{answers} answers" if answers else ""


def _labels(known: bool) -> str:
    return "true labels" if known else "no true labels"


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))
