"""What a request means, and the answer to it."""

from .brine import BrineError, dump, load

PING, CLOSE, GETROOT, GETATTR, DELATTR, SETATTR, CALL, CALLATTR, REPR, STR, CMP, HASH, DIR = range(1, 14)
DEL, INSPECT, INSTANCECHECK, HELLO = 15, 16, 20, 71
ROOT, DEVICE, OF_ROOT, OF_DEVICE = 1, 2, 16, 256
"""Objects have the same number for ever: a reference needs no memory, and giving one back does nothing."""

_DENIED = "'%s' is not exposed for %s; dir() lists what is"
_ROOT_METHODS = ("describe", "device", "get_service_name", "test_safe")
_SIGNATURES = ("(name=None)", "(name)", "()", "(name=None)")


class Refused(Exception):
    """The answer is an error: the builtin class, its code and a text."""

    def __init__(self, name, code, text):
        super().__init__(text)
        self.name, self.code, self.text = name, code, text


def malformed(text):
    return Refused("TypeError", "bad-request", text)


class Reference:
    """An object of ours, as an answer."""

    def __init__(self, number):
        self.number = number


class Requests:
    """Answers the messages of one peer at a time for a `board`."""

    def __init__(self, board):
        self.board = board

    def serve(self, message):
        """The answer to a message, as bytes; None where there is none."""
        out = bytearray(b"\x02")
        try:
            if message[0] != 1:
                return None
            seq, request = load(message, 1)
            if type(seq) is not int:
                return None
        except (BrineError, IndexError, ValueError, TypeError):
            return None
        try:
            handler, box = request
            if type(handler) is not int:
                raise malformed("this is no request")
            if handler == CLOSE:
                return None
            args = [self.unbox(each) for each in self.items(box)]
            value = self.handle(handler, args)
            dump((seq, (4, self.id_of(value.number)) if type(value) is Reference else (1, value)), out)
        except Refused as refused:
            return self.error(seq, refused.name, refused.code, refused.text)
        except (BrineError, ValueError, TypeError, IndexError) as problem:
            return self.error(seq, "TypeError", "bad-request", "this is no request: %s" % problem)
        return bytes(out)

    def error(self, seq, name, code, text):
        out = bytearray(b"\x03")
        attributes = (("code", code), ("_remote_version", "<version denied>"))
        dump((seq, (("builtins", name), (text[:200],), attributes, "<traceback denied>")), out)
        return bytes(out)

    # -- boxes and objects ------------------------------------------------------------------------------------------

    def items(self, box):
        """The items of a tuple, each as a box."""
        label, value = box
        if type(value) is not tuple or label not in (1, 2):
            raise malformed("the arguments must be a tuple")
        return [(1, each) for each in value] if label == 1 else value

    def unbox(self, box):
        label, value = box
        if label == 1:
            return value
        if label == 2:
            return tuple([self.unbox(each) for each in value])
        if label == 3:
            return Reference(self.number_in(value))
        raise malformed("arguments go by value only")

    def number_in(self, reference):
        number = reference if type(reference) is int else reference[2] if len(reference) == 3 else 0
        if number in (ROOT, DEVICE) or self.method(number) is not None:
            return number
        raise Refused("LookupError", "not-found", "no such object here")

    def method(self, number):
        """What a number stands for: the name of a method of the root, or a member; None for anything else."""
        if type(number) is not int:
            return None
        if OF_ROOT <= number < OF_ROOT + len(_ROOT_METHODS):
            return _ROOT_METHODS[number - OF_ROOT]
        if OF_DEVICE <= number < OF_DEVICE + len(self.board.members):
            return self.board.members[number - OF_DEVICE]
        return None

    def id_of(self, number):
        if number == ROOT:
            return ("board.Root", 1, 1)
        if number == DEVICE:
            return ("board.Device", 2, 2)
        return ("builtins.method", 3, number)

    def find(self, object_number, name):
        """The number of an object's attribute; 0 where it has none of that name."""
        if type(name) is not str:
            raise malformed("a name must be text, by value")
        if name.startswith("exposed_"):
            name = name[8:]
        if object_number == ROOT:
            if name == self.board.name:
                return DEVICE
            return OF_ROOT + _ROOT_METHODS.index(name) if name in _ROOT_METHODS else 0
        if object_number == DEVICE:
            for place, member in enumerate(self.board.members):
                if member.name == name:
                    return OF_DEVICE + place
            return 0
        return object_number if name == "__call__" else 0

    def deny(self, name, operation):
        shown = "".join([each if " " <= each <= "~" else "?" for each in name[:24]])
        return Refused("AttributeError", "access-denied", "%s: " % self.board.name + _DENIED % (shown, operation))

    # -- handlers ---------------------------------------------------------------------------------------------------

    def handle(self, handler, args):
        if handler == PING:
            return args[0]
        if handler == GETROOT:
            return Reference(ROOT)
        if handler == HELLO:
            return (1, ("device-profile", "short-references"), self.methods(ROOT))
        if handler == DEL:
            return None
        if handler == INSPECT:
            return self.methods(self.number_in(args[0]))
        if not GETATTR <= handler <= INSTANCECHECK:
            raise malformed("there is no such handler")
        if type(args[0]) is not Reference:
            raise malformed("the target must be an object of this board")
        return self.about(handler, args[0].number, args[1:])

    def about(self, handler, number, args):
        if handler == GETATTR:
            return self.get(number, args[0])
        if handler == SETATTR:
            return self.set(number, args[0], args[1])
        if handler == CALL:
            return self.call(number, args[0], args[1] if len(args) > 1 else ())
        if handler == CALLATTR:
            found = self.find(number, args[0])
            if not found or found == DEVICE or self.is_property(found):
                raise self.deny(args[0], "call" if found else "read")
            return self.call(found, args[1], args[2] if len(args) > 2 else ())
        if handler in (REPR, STR):
            return "<%s>" % self.board.name
        if handler == HASH:
            return number
        if handler == DIR:
            return self.names(number)
        if handler == CMP and args[1] in ("__eq__", "__ne__"):
            same = type(args[0]) is Reference and args[0].number == number
            return same == (args[1] == "__eq__")
        raise self.deny(str(args[1]) if handler == CMP else "it", "this")

    def is_property(self, number):
        member = self.method(number)
        return number >= OF_DEVICE and member is not None and member.is_property

    def get(self, number, name):
        found = self.find(number, name)
        if not found:
            raise self.deny(name, "read")
        if self.is_property(found):
            return self.run(self.method(found).call, ())
        return Reference(found)

    def set(self, number, name, value):
        found = self.find(number, name)
        member = self.method(found)
        if not found or not self.is_property(found) or member.write is None:
            raise self.deny(name, "set")
        self.run(member.write, (member.arguments[0].checked(member.name, value),))

    def call(self, number, args, kwargs):
        member = self.method(number)
        if member is None or self.is_property(number):
            raise self.deny("__call__", "call")
        if type(args) is not tuple or type(kwargs) is not tuple:
            raise malformed("arguments go by value only")
        if number < OF_DEVICE:
            return self.call_root(member, args)
        return self.run(member.call, member.bound(args, kwargs))

    def run(self, function, args):
        try:
            value = function(*args)
        except Exception as problem:
            raise Refused("RuntimeError", "device-error", "%s: %s" % (type(problem).__name__, problem))
        try:
            dump(value, bytearray())
        except TypeError as problem:
            raise Refused("RuntimeError", "device-error", str(problem))
        return value

    # -- the root ---------------------------------------------------------------------------------------------------

    def call_root(self, method, args):
        board = self.board
        if len(args) > (0 if method == "get_service_name" else 1) or (method == "device" and not args):
            raise Refused("TypeError", "type-error", method + _SIGNATURES[_ROOT_METHODS.index(method)])
        name = args[0] if args else None
        if name is not None and name != board.name:
            raise Refused("LookupError", "not-found", "no such device here; there is: %s" % board.name)
        if method == "describe":
            return (
                self.summary() if name is None else (("members", tuple([each.described() for each in board.members])),)
            )
        if method == "device":
            return Reference(DEVICE)
        if method == "get_service_name":
            return "BOARD"
        return board.make_safe()

    def summary(self):
        board = self.board
        row = (
            ("driver", board.driver),
            ("doc", board.doc),
            ("state", "open"),
            ("identity", board.identity),
            ("safe_state", board.safe_state),
            ("needs_lease", bool(board.safe_state)),
            ("sole", True),
        )
        return ((board.name, row),)

    def methods(self, number):
        if number == ROOT:
            return tuple([(name, name + sign) for name, sign in zip(_ROOT_METHODS, _SIGNATURES)])
        if number == DEVICE:
            return tuple([(each.name, each.documentation()) for each in self.board.members if not each.is_property])
        member = self.method(number)
        return (("__call__", member if type(member) is str else member.documentation()),)

    def names(self, number):
        if number == ROOT:
            return _ROOT_METHODS + (self.board.name,)
        return tuple([each.name for each in self.board.members]) if number == DEVICE else ("__call__",)
