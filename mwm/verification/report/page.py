"""The report as one page of HTML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mwm.verification.querying.answer_log import ANSWERS
from mwm.verification.report import explain, technical
from mwm.verification.report.exhibit import Exhibit, show_questions, suspect_names
from mwm.verification.report.html import render
from mwm.verification.report.notes import all_notes
from mwm.verification.report.reasons import reasoning
from mwm.verification.verdict import KeySummary, SuspectResult, Verdict

CHECKSUMS = "SHA256SUMS"
SIGN = f"ssh-keygen -Y sign -n mwm-verdict -f ~/.ssh/id_ed25519 {CHECKSUMS}"
SIGN_TOO = f"gpg --armor --detach-sign {CHECKSUMS}"
HASH = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum"


def html_report(verdict: Verdict, exhibit: Exhibit | None = None) -> str:
    """The whole verdict as a page, for a stranger; with an `exhibit` it shows questions of the key, too."""
    key, plan = verdict.key, verdict.plan
    content = {
        "title": explain.headline(verdict),
        "suspects": [
            _told(*one, verdict) for one in zip(suspect_names(len(verdict.suspects)), verdict.suspects, strict=True)
        ],
        "questions": list(explain.questions(verdict)),
        "how_asked": list(explain.how_asked(verdict)),
        "pictures": list(show_questions(exhibit)) if exhibit else [],
        "limits": list(explain.limits(verdict)),
        "what_to_do": explain.WHAT_TO_DO,
        "notes": list(all_notes(verdict)),
        "checks": list(checks(key)),
        "fixed": technical.fixed(key, plan),
    }
    return render(Path(__file__).with_name("page.html"), content)


def _told(who: str, suspect: SuspectResult, verdict: Verdict) -> dict[str, Any]:
    """What the page says of one suspect."""
    return {
        "who": f"{who.capitalize()}, {suspect.name}",
        "heading": explain.HEADINGS[suspect.decision],
        "decision": suspect.decision.replace(" ", "-"),
        "meaning": list(explain.meaning(suspect, verdict)),
        "reasons": suspect.reasons,
        "asked": suspect.asked,
        "counts": explain.counts(suspect, verdict),
        "comparison": list(explain.comparison(suspect, verdict)),
        "reasoning": list(reasoning(suspect, verdict)),
        "figures": technical.figures(suspect, verdict),
    }


def checks(key: KeySummary) -> Iterator[str]:
    """What a stranger can check, and how."""
    yield f"Nothing was changed: `sha256sum -c {CHECKSUMS}`."
    yield f"Who says so: a signature of {CHECKSUMS}, made by `{SIGN}` or `{SIGN_TOO}`."
    yield f"The key is the one committed to: `launch.py open KEY --commitment {key.commitment}`."
    yield "The commitment is older than the suspect: by its time stamp, or where it was published."
    yield f"A suspect's SHA-256 is that of its file, or of what `{HASH}` says in its folder."
    yield f"The suspect answers so: ask it again by `launch.py verify`, or compare with {ANSWERS}."
    yield f"Take care: what a copy says in {ANSWERS} is mostly the key's labels."
