"""A jam for the page: bars one by one, each when the page asks for it, under what it asks for by then."""

from dataclasses import fields

from utils.checks import ArgumentError, check_keys, whole
from utils.playing.controls import to_model_units
from utils.playing.jam import Jam
from utils.playing.request import Dials
from utils.playing.wishes import WISHES, ask
from utils.studio.notes import hits_of, rolls_of
from utils.studio.words import read_fields

RULES = "at_most", "playable", "swing"  # may change as wishes do
OTHERS = *RULES, "lock", "num_samples", "best_of"
DIALS = [field.name for field in fields(Dials) if field.name not in OTHERS]  # are for all of a jam


class Session:
    """One page's jam. Messages: {"type": "start", "rhythm": hits or None, "fields": {...}}, then as often as
    wanted {"type": "bar", "number": n} with a rhythm or fields that are new from this bar on. Fields are
    those of a Request: WISHES of one bar each, DIALS at the start, RULES. Each is answered in kind; what it
    gets wrong is a ValueError, and the jam goes on as it was."""

    def __init__(self, model):
        self.model, self.jam = model, None

    def answer(self, message):
        if not isinstance(message, dict) or message.get("type") not in ("start", "bar"):
            raise ArgumentError("type", None, "it must be start or bar", "")
        check_keys(message, ["type", "number", "rhythm", "fields"])
        given = read_fields(message.get("fields", {}))
        if message["type"] == "start":
            check_keys(given, [*WISHES, *RULES, *DIALS], "field of a jam")
            dials = {name: given.pop(name) for name in DIALS if name in given}
            jam = Jam(model=self.model, **dials)
            jam.change(**self.changes(message, given))
            self.jam = jam
            return {"type": "started", "seed": jam.dials.seed}
        if self.jam is None:
            raise ArgumentError("type", "bar", "a jam begins with start")
        number = whole(message.get("number"), "number", 0)
        check_keys(given, [*WISHES, *RULES], "field of a jam's bar")
        if "fields" in message or "rhythm" in message:
            self.jam.change(**self.changes(message, given))
        hits = hits_of(next(self.jam))
        return {"type": "bar", "number": number, "hits": hits, "steps": self.jam.bar.n_steps}

    def changes(self, message, given):
        """What a message changes, as Jam.change takes it; without fields no wish changes."""
        changes = {}
        if "rhythm" in message:
            rhythm = message["rhythm"]
            changes["rhythm"] = None if rhythm is None else rolls_of(rhythm, "rhythm")
        if "fields" in message:
            wishes = {name: given[name] for name in WISHES if name in given}
            grid = self.model.grid(self.model.steps_per_bar)
            changes |= to_model_units(ask(1, **wishes), self.model.normalize_factor, grid)
            changes |= {"at_most": given.get("at_most"), "playable": given.get("playable", False)}
            changes["swing"] = given.get("swing")
        return changes
