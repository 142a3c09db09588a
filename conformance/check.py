#!/usr/bin/env python3
"""Checks the known answers against an implementation that shares no code with Cloakroom.

Needs nothing but Python; AES-GCM is checked too where the package `cryptography` can be imported.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    AESGCM = None

HERE = pathlib.Path(__file__).parent
checked = 0


def vectors(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


def same(what, ours, theirs):
    global checked
    checked += 1
    if ours != theirs:
        raise SystemExit(f"{what}: {ours!r} was computed, {theirs!r} is written")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def mac(pepper, purpose, *parts):
    return hmac.new(pepper, bytes([purpose]) + b"".join(parts), hashlib.sha256).digest()


def bound(pepper, handle, terms):
    out = mac(pepper, 0)[:8] + b"\x01" + handle
    out += struct.pack(">QQQ", terms["created"], terms["absolute"], terms["idle_ms"])
    authentication = terms["authentication"]
    if authentication is None:
        return out + b"\x00"
    out += b"\x01" + struct.pack(">BQB", authentication["level"], authentication["at"], len(authentication["methods"]))
    for text in [*authentication["methods"], terms["subject"]]:
        out += bytes([len(text.encode())]) + text.encode()
    return out


def unwrap(pepper, handle, secret, terms, slot):
    sealed = bytes.fromhex(slot["wrapped"] + slot["tag"])
    return AESGCM(mac(pepper, 2, handle, secret)).decrypt(bytes(12), sealed, bound(pepper, handle, terms))


def open_data(key, handle, nonce, text):
    return AESGCM(key).decrypt(bytes.fromhex(nonce), bytes.fromhex(text), b"\x01" + handle)


class Reader:
    """The few shapes of postcard that a record is made of."""

    def __init__(self, data):
        self.data = data

    def take(self, count):
        taken, self.data = self.data[:count], self.data[count:]
        if len(taken) < count:
            raise SystemExit("a record ends early")
        return taken

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def text(self):
        return self.take(self.varint()).decode()

    def option(self, read):
        return read() if self.byte() else None

    def list(self, read):
        return [read() for _ in range(self.varint())]

    def end(self):
        if self.data:
            raise SystemExit("a record goes on after its end")


def data_map(plain):
    reader = Reader(plain)
    pairs = reader.list(lambda: (reader.text(), reader.text()))
    reader.end()
    return dict(pairs)


BROWSERS = ["Unknown", "Firefox", "Chrome", "Edge", "Opera", "Safari", "SamsungInternet", "Curl", "Other"]
SYSTEMS = ["Unknown", "Windows", "MacOs", "Linux", "Android", "Ios", "ChromeOs"]
REASONS = ["LoggedOut", "Superseded", "Revoked", "RevokedAll", "Evicted", "Replay", "Idle", "Absolute"]


def record(encoded):
    r = Reader(encoded)
    same("format", r.byte(), 1)
    hexed = lambda count: r.take(count).hex()
    authentication = lambda: {"at": r.varint(), "level": r.byte(), "methods": r.list(r.text)}
    network = lambda: [{"V4": hexed(3)} if kind == 0 else {"V6": hexed(6)} for kind in [r.varint()]][0]
    slot = lambda: {"pepper": hexed(8), "digest": hexed(16), "wrapped": hexed(32), "tag": hexed(16)}
    salted = lambda: {"slot": slot(), "salt": hexed(16)}
    body = {
        "terms": {
            "subject": r.option(r.text),
            "created": r.varint(),
            "authentication": r.option(authentication),
            "idle_ms": r.varint(),
            "absolute": r.varint(),
        },
        "client": {
            "browser": BROWSERS[r.varint()],
            "system": SYSTEMS[r.varint()],
            "network": r.option(network),
        },
        "secrets": {
            "current": slot(),
            "issued": r.varint(),
            "confirmed": r.option(r.varint),
            "next": r.option(salted),
            "previous": r.option(salted),
            "retired": r.list(lambda: hexed(8)),
            "fresh": r.byte(),
            "strangers": r.list(r.varint),
        },
        "data": {"nonce": hexed(12), "text": r.take(r.varint()).hex()},
    }
    r.end()
    return body


def main():
    for v in vectors("token"):
        handle, secret = bytes.fromhex(v["handle"]), bytes.fromhex(v["secret"])
        same("token", base64url(handle + secret), v["token"])
        same("handle", base64url(handle), v["handle_text"])
        same("tag", int.from_bytes(handle[:2], "big") >> 2, v["tag"])
        if v["subject"] is not None:
            digest = hashlib.sha256(b"cloakroom subject tag\x00" + v["subject"].encode()).digest()
            same("subject tag", int.from_bytes(digest[:2], "big") >> 2, v["tag"])

    for v in vectors("derivation"):
        pepper, handle, secret, salt = (bytes.fromhex(v[k]) for k in ("pepper", "handle", "secret", "salt"))
        same("pepper id", mac(pepper, 0)[:8].hex(), v["pepper_id"])
        same("digest", mac(pepper, 1, handle, secret)[:16].hex(), v["digest"])
        same("short digest", mac(pepper, 1, handle, secret)[:8].hex(), v["short_digest"])
        same("successor", mac(pepper, 3, handle, secret, salt).hex(), v["successor"])

    for v in vectors("sealing"):
        pepper, handle, secret = (bytes.fromhex(v[k]) for k in ("pepper", "handle", "secret"))
        same("bound fields", bound(pepper, handle, v["terms"]).hex(), v["bound"])
        same("slot's pepper", mac(pepper, 0)[:8].hex(), v["slot"]["pepper"])
        same("slot's digest", mac(pepper, 1, handle, secret)[:16].hex(), v["slot"]["digest"])
        same("data map", data_map(bytes.fromhex(v["plain"])), v["data"])
        if AESGCM:
            same("data key", unwrap(pepper, handle, secret, v["terms"], v["slot"]).hex(), v["data_key"])
            plain = open_data(bytes.fromhex(v["data_key"]), handle, v["nonce"], v["sealed"])
            same("opened data", plain.hex(), v["plain"])

    for v in vectors("record"):
        body = record(bytes.fromhex(v["encoded"]))
        same(f"record, {v['name']}", body, v["decoded"])
        pepper = bytes.fromhex(v["pepper"])
        slots = {"current": body["secrets"]["current"]}
        slots |= {k: body["secrets"][k]["slot"] for k in ("next", "previous") if body["secrets"][k]}
        same("good secrets", set(slots), set(v["tokens"]))
        for role, token in v["tokens"].items():
            raw = base64.urlsafe_b64decode(token)
            handle, secret = raw[:16], raw[16:]
            same("digest in a record", mac(pepper, 1, handle, secret)[:16].hex(), slots[role]["digest"])
            if AESGCM:
                key = unwrap(pepper, handle, secret, body["terms"], slots[role])
                plain = open_data(key, handle, body["data"]["nonce"], body["data"]["text"])
                same("data in a record", data_map(plain), v["data"])
        for one, other in (("current", "next"), ("previous", "current")):
            if one in v["tokens"] and other in v["tokens"]:
                old, new = (base64.urlsafe_b64decode(v["tokens"][k]) for k in (one, other))
                salted = body["secrets"]["next"] or body["secrets"]["previous"]
                derived = mac(pepper, 3, old[:16], old[16:], bytes.fromhex(salted["salt"]))
                same("successor in a record", derived.hex(), new[16:].hex())

    for v in vectors("tombstone"):
        r = Reader(bytes.fromhex(v["encoded"]))
        same("format", r.byte(), 1)
        body = {"reason": REASONS[r.varint()], "at": r.varint(), "digests": r.list(lambda: r.take(8).hex())}
        r.end()
        same("tombstone", body, v["decoded"])

    ciphers = "AES-GCM included" if AESGCM else "AES-GCM left out: the package cryptography is not installed"
    print(f"{checked} answers agree ({ciphers})")


main()
