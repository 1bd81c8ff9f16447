"""Writes vectors.json: bodies, their canonical form and Didit's three signatures, all as Python makes them.

    python3 vectors.py > vectors.json

Only the standard library is used, and no Didit code: what is signed is what docs.didit.me/integration/webhooks says.
"""

import hashlib
import hmac
import json
import random
import struct

SECRET = "didit-secret-é"


def shortened(value):
    if isinstance(value, dict):
        return {name: shortened(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def canonical(body):
    return json.dumps(shortened(json.loads(body)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sign(text):
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


def case(name, body):
    parsed = json.loads(body)
    vector = {"name": name, "body": body, "canonical": canonical(body), "raw": sign(body), "v2": sign(canonical(body))}
    if isinstance(parsed, dict):
        parts = [parsed.get(part, "") for part in ("timestamp", "session_id", "status", "webhook_type")]
        vector["simple"] = sign(":".join(str(part) for part in parts))
    return vector


def event(extra):
    return '{"event_id":"evt-1","session_id":"5b37-20ed","status":"Approved","timestamp":1700000000,' \
           '"webhook_type":"status.updated"%s}' % extra


NUMBERS = """0 -0 7 -7 0.0 -0.0 1.0 -1.0 1.50 -1.5 98.5 1e5 1E5 1e+5 12e-1 0.1 0.2 0.30000000000000004 100.0 1e15 1e16 1e21 1e22 1e23
123456789012345680000.0 9007199254740993 9007199254740993.0 123456789012345678901234567890 -18446744073709551616 0.001 0.0001
0.00011 0.00010000000000000002 0.00009999999999999999 0.00001 1e-5 1.5e-5 0.000001 1e-7 -1e-7 1.25e-10 5e-324 2.2250738585072014e-308
1e-100 1e300 1.7976931348623157e308 4503599627370496.5 4503599627370495.5 2251799813685248.25 1e-400 3.14159265358979323846
1573844867496871.2 1573844867496871.25 1573844867496871.75 -1125899906842624.75 1125899906842625.25 2251799813685247.75""".split()

TEXTS = ['""', '"plain"', '"/"', '"\\/"', '"\\u00e9"', '"é"', '"\\ud83d\\ude00"', '"😀"', '"\\u007f"', '"\\u0000"', '"\\u001F"',
         '"\\b\\f\\n\\r\\t"', '"\\"\\\\"', '"\\u2028"', '"<&>"', '"\\uFFFF"', '"\\u0041"']

OBJECTS = [
    '{}', '[]', '{ }', '[ ]', '{"b":1,"a":2}', '{"10":1,"9":2,"a":3}', '{"a":{"d":1,"c":[{"f":1,"e":2}]},"":0}',
    # By code point the first comes last: by UTF-16 it would not.
    '{"\U0001f600":1,"\uffee":2}', '{"\\ud83d\\ude00":1,"\\uffee":2,"é":3,"z":4,"Z":5}',
    '{"a":true,"b":false,"c":null,"d":1.0}', ' {\t"b" :\r\n[ 1 , 2.0 ] , "a" : { } } ', '[[[[[[[[1.0]]]]]]]]', '{"aa":1,"a":2,"ab":3,"a\\u0000":4}',
]

DRAWN = random.Random(2026)


def drawn(depth):
    kind = DRAWN.randrange(9 if depth else 7)
    if kind == 0:
        return DRAWN.choice(TEXTS)
    if kind == 1:
        return DRAWN.choice(["true", "false", "null", str(DRAWN.getrandbits(DRAWN.randrange(1, 90)))])
    if kind in (2, 3):
        bits = struct.unpack("<d", DRAWN.randbytes(8))[0]
        return repr(bits) if abs(bits) < 1e308 else "0"
    if kind == 4:
        return repr(DRAWN.randrange(-10**9, 10**9) / 10 ** DRAWN.randrange(12))
    if kind == 5:
        return "%de%d" % (DRAWN.randrange(1, 10**6), DRAWN.randrange(-30, 30))
    if kind == 6:
        # Where floats are as far apart as a digit is worth, two texts may be as near.
        return repr(DRAWN.randrange(2**40, 2**54) / 2 ** DRAWN.randrange(1, 12))
    if kind == 7:
        return "[%s]" % DRAWN.choice([",", ", "]).join(drawn(depth - 1) for _ in range(DRAWN.randrange(5)))
    names = DRAWN.sample(TEXTS[1:] + ['"%s"' % n for n in (1, 2, 10, "b", "B")], DRAWN.randrange(6))
    names = {json.loads(name): name for name in names}
    return "{%s}" % DRAWN.choice([",", " ,\n"]).join("%s:%s" % (name, drawn(depth - 1)) for name in names.values())


cases = [case(number, number) for number in NUMBERS]
cases += [case(text, text) for text in TEXTS]
cases += [case(body, body) for body in OBJECTS]
cases += [
    case("event", event("")),
    case("event, a name that is not ASCII", event(',"decision":{"full_name":"Zoë Ångström 😀","score":98.0,"ratio":1e-7}')),
    case("event, the same escaped", event(',"decision":{"full_name":"Zo\\u00eb \\u00c5ngstr\\u00f6m \\ud83d\\ude00","score":98.0,"ratio":1e-7}')),
    case("event without a session", '{"timestamp":1700000000,"webhook_type":"status.updated"}'),
]
cases += [case("drawn %d" % n, drawn(4)) for n in range(300)]
print(json.dumps({"secret": SECRET, "cases": cases}, indent=0, ensure_ascii=True))
