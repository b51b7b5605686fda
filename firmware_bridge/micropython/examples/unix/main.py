"""MicroPython on a PC stands for a board: `micropython main.py /dev/pts/3 [raw]`."""

import sys

from instrument_board import Board, tty

state = {"level": 0.0, "count": 0, "safes": 0}


def make_safe():
    state["level"] = 0.0
    state["safes"] += 1


board = Board(driver="UnixExample", identity="firmware 1.0.0, unix", safe_state="level 0", make_safe=make_safe)


def set_level(value):
    state["level"] = value


board.property("level", lambda: state["level"], float, set_level, 0.0, 5.0, "V", "A voltage that is kept.")
board.property("safes", lambda: state["safes"], int, doc="How often it was made safe.")
board.property("counted", lambda: state["count"], int, doc="How often count ran.")


@board.expose(result=int, doc="One more; how many so far.")
def count():
    state["count"] += 1
    return state["count"]


@board.expose(("a", int), ("b", int), result=int, access="read", doc="The sum.")
def add(a, b):
    return a + b


@board.expose(("text", str), result=str, access="read", doc="The same again.")
def echo(text):
    return text


@board.expose(doc="Fail.")
def fail():
    raise OSError("it smokes")


port = tty(sys.argv[1])
print("ready")  # from here on the tty is raw: what came before was perhaps not taken as it was
board.serve(port, sys.argv[2] if len(sys.argv) > 2 else "link")
