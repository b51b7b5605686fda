"""Run by MicroPython: the golden vectors of brine and of the link. Prints one JSON document."""

import binascii
import json
import sys

from instrument_board.brine import BrineError, dump, load
from instrument_board.link import Link

FOLDER = sys.argv[1]
WAITING = 0x30


def read(name):
    with open(FOLDER + "/" + name) as file:
        return json.load(file)


def brine():
    """What is read and written again, what is refused, and what comes out as other bytes."""
    same, refused, wrong = 0, [], []
    for case in read("brine.json")["cases"]:
        raw = binascii.unhexlify(case["hex"])
        try:
            value = load(raw)
        except BrineError:
            refused.append(case["value"][:60])
            continue
        out = bytearray()
        dump(value, out)
        if bytes(out) == raw:
            same += 1
        else:
            wrong.append(case["value"][:60])
        for end in range(min(len(raw), 40)):
            try:
                load(raw[:end])
                wrong.append(case["value"][:60] + " cut short")
            except BrineError:
                pass
    return {"same": same, "refused": refused, "wrong": wrong}


def frames(written):
    return [each for each in bytes(written).split(b"\x7e") if each and each[0] & 0xF0 != WAITING]


def exchanges():
    """The names of those that agree, and of the others where they don't."""
    good, wrong = [], []
    for case in read("link_exchanges.json"):
        if case["config"]["frame"] != 64:
            continue
        nonces = list(case["nonces"])
        link = Link(lambda left=nonces: left.pop(0), 64, 1, 4096)
        problem = ""
        for step in case["steps"]:
            now = round(step["at"] * 1000)
            link.receive(binascii.unhexlify(step["receive"]), now)
            got = []
            while link.inbox:
                got.append(binascii.hexlify(link.inbox.pop(0)).decode())
            for what in step["do"]:
                if what[0] == "send":
                    link.send(binascii.unhexlify(what[2]))
            expected = [event[2] for event in step["events"] if event[0] == "received"]
            written = link.output(now)
            if got != expected or frames(written) != frames(binascii.unhexlify(step["write"])):
                problem = "%s at %s: wrote %s, got %s" % (case["name"], step["at"], binascii.hexlify(written), got)
                break
        if problem:
            wrong.append(problem)
        else:
            good.append(case["name"])
    return {"good": good, "wrong": wrong}


def refused():
    """The names of lines of which the link takes notice though it should not."""
    noticed = []
    vectors = read("link.json")
    nonces = vectors["nonces"][0]
    first = [case for case in read("link_exchanges.json") if case["config"]["frame"] == 64][0]
    for case in vectors["refused"]:
        if case["name"].startswith("its own frame"):  # which is just what a responder takes
            continue
        left = [nonces["responder"], 1, 2]
        link = Link(lambda left=left: left.pop(0), 64, 1, 4096)
        for step in first["steps"][:3]:
            link.receive(binascii.unhexlify(step["receive"]), round(step["at"] * 1000))
            link.output(round(step["at"] * 1000))
        link.receive(binascii.unhexlify(case["line"]), 21)
        if link.inbox or not link.open:
            noticed.append(case["name"])
    return noticed


print(json.dumps({"brine": brine(), "exchanges": exchanges(), "refused": refused()}))
