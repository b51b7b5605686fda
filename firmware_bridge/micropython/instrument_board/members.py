"""The exposure table: which functions can be reached, and with what arguments."""

from .requests import Refused

_NAMES = {None: "None", bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes", tuple: "tuple"}


class Argument:
    """`(name, type)`, or `(name, type, lowest, highest)` for a number."""

    def __init__(self, name, kind, lowest=None, highest=None):
        if kind not in (bool, int, float, str, bytes):
            raise TypeError("%s: an argument is bool, int, float, str or bytes" % name)
        self.name, self.kind, self.lowest, self.highest = name, kind, lowest, highest

    def checked(self, method, value):
        """The value, if it is of the type and in the range; a float of an int. Raises Refused."""
        if self.kind is float and type(value) is int:
            value = float(value)
        if type(value) is not self.kind:
            text = "%s: %s must be of type %s" % (method, self.name, _NAMES[self.kind])
            raise Refused("TypeError", "type-error", text)
        # Written so that a NaN is not inside.
        if (self.lowest is not None and not value >= self.lowest) or (
            self.highest is not None and not value <= self.highest
        ):
            text = "%s: %s must be from %s to %s" % (method, self.name, self.lowest, self.highest)
            raise Refused("ValueError", "out-of-range", text)
        return value


class Member:
    """One function, or one property."""

    def __init__(
        self, name, call, arguments=(), result=None, unit="", doc="", access="control", write=None, is_property=False
    ):
        if access not in ("read", "control"):
            raise ValueError("%s: access is read or control" % name)
        self.name, self.call, self.result, self.unit, self.doc, self.access = name, call, result, unit, doc, access
        self.arguments = tuple([Argument(*each) for each in arguments])
        self.write, self.is_property = write, is_property

    def bound(self, args, kwargs):
        """The values of the arguments, in their order. Raises Refused."""
        if len(args) > len(self.arguments):
            raise Refused("TypeError", "type-error", "%s: too many arguments" % self.name)
        given = dict(zip([each.name for each in self.arguments], args))
        for pair in kwargs:
            if type(pair) is not tuple or len(pair) != 2 or pair[0] in given:
                raise Refused(
                    "TypeError", "type-error", "%s: a named argument that is none, or given twice" % self.name
                )
            given[pair[0]] = pair[1]
        values = []
        for argument in self.arguments:
            if argument.name not in given:
                raise Refused("TypeError", "type-error", "%s: %s is missing" % (self.name, argument.name))
            values.append(argument.checked(self.name, given.pop(argument.name)))
        if given:
            raise Refused("TypeError", "type-error", "%s: a named argument that is none, or given twice" % self.name)
        return values

    def signature(self):
        """`(channel: int, duty: float) -> None`, or `-> float` of a property."""
        arrow = "-> %s" % _NAMES[self.result]
        if self.is_property:
            return arrow
        return "(%s) %s" % (", ".join(["%s: %s" % (each.name, _NAMES[each.kind]) for each in self.arguments]), arrow)

    def full_doc(self):
        """What it does, and a line for each argument with a range."""
        ranges = ["\n\n%s: %s to %s" % (a.name, a.lowest, a.highest) for a in self.arguments if a.lowest is not None]
        return self.doc + "".join(ranges)

    def documentation(self):
        return "%s%s\n\n%s" % (self.name, self.signature(), self.full_doc())

    def described(self):
        """Its row of the description: pairs where Python would have a dict."""
        return (
            ("name", self.name),
            ("kind", "property" if self.is_property else "method"),
            ("access", self.access),
            ("unit", self.unit),
            ("settable", self.write is not None),
            ("signature", self.signature()),
            ("doc", self.full_doc()),
        )
