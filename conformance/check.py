#!/usr/bin/env python3
"""Checks the known answers against an implementation that shares no code with Cloakroom.

Needs nothing but Python; AES-GCM is checked too where the package `cryptography` can be imported.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
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


def mac_of_parts(key, *parts):
    """HMAC over parts, each behind its length in one byte."""
    return hmac.new(key, b"".join(bytes([len(part)]) + part for part in parts), hashlib.sha256).digest()


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


OWN, TRUSTED = ("https", "example.org", 443), ("https", "trusted.test", 8443)


def origin(text):
    """An origin as browsers write it, or None. IPv6 is not in the tables."""
    found = re.fullmatch(r"(https?)://([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)(?::([1-9][0-9]*))?", text)
    if found is None:
        return None
    scheme, host, port = found.groups()
    return scheme, host, int(port) if port else {"https": 443, "http": 80}[scheme]


def verdict(mode, route, method, websocket, site, fetch_mode, dest, sender, cookie):
    """The verdict and the fields it depends on, written anew from conformance/README.md."""
    known = site if site in ("same-origin", "none", "same-site", "cross-site") else None
    trusted = origin(sender) == TRUSTED
    websocket = websocket == "yes"
    if method in ("GET", "HEAD", "OPTIONS") and not websocket:
        if route != "isolated":
            return "allow", "-"
        if known in ("same-origin", "none"):
            return "allow", "sec-fetch-site"
        if known is None:
            foreign = sender != "-" and not trusted and origin(sender) != OWN
            return "other-origin" if foreign else "allow", "sec-fetch-site,origin"
        if fetch_mode != "navigate":
            return "allow" if trusted else "embedded", "sec-fetch-site,sec-fetch-mode,origin"
        if dest == "document":
            return "allow", "sec-fetch-site,sec-fetch-mode,sec-fetch-dest"
        return "allow" if trusted else "embedded", "sec-fetch-site,sec-fetch-mode,sec-fetch-dest,origin"
    if route == "exempt" and not websocket:
        return "allow", "-"
    passes = "needs-token" if mode == "and-token" and not websocket else "allow"
    if known in ("same-origin", "none"):
        return passes, "sec-fetch-site"
    vary = "sec-fetch-site,origin"
    if known is not None:
        return passes if trusted else "other-site", vary
    if sender != "-":
        return passes if trusted or origin(sender) == OWN else "other-origin", vary
    if cookie == "no":
        return passes, vary
    return "unknown" if websocket or mode == "only" else "needs-token", vary


def table(name):
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return rows[1:]


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

    for v in vectors("csrf"):
        raw = base64.urlsafe_b64decode(v["token"])
        same("form token", base64url(raw), v["token"])
        random = raw[:16]
        if "data_key" in v:
            key = hmac.new(bytes.fromhex(v["data_key"]), b"cloakroom csrf key", hashlib.sha256).digest()
            tag = mac_of_parts(key, b"cloakroom csrf 1 s", bytes.fromhex(v["handle"]), random)
            same("session's form token", (random + tag).hex(), raw.hex())
        else:
            key = mac(bytes.fromhex(v["pepper"]), 4)
            issued, visitor = struct.pack(">Q", v["issued"]), bytes.fromhex(v["visitor"])
            tag = mac_of_parts(key, b"cloakroom csrf 1 v", visitor, random, issued)[:24]
            same("visitor's form token", (random + issued + tag).hex(), raw.hex())
            same("visitor's cookie", base64url(visitor), v["cookie"])
        same("key of form tokens", key.hex(), v["key"])

    for row in table("origin-verdict.tsv"):
        method, websocket, site, sender, cookie, expected = row
        ours, _ = verdict("only", "plain", method, websocket, site, "-", "-", sender, cookie)
        same(f"verdict on {row}", ours, expected)
    for row in table("request-verdict.tsv"):
        same(f"verdict on {row}", list(verdict(*row[:9])), row[9:])

    ciphers = "AES-GCM included" if AESGCM else "AES-GCM left out: the package cryptography is not installed"
    print(f"{checked} answers agree ({ciphers})")


main()
