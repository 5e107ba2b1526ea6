"""Python's websocket-client as the table of clients needs it, one JSON line per event on stdout.

    python3 client_websocket.py MODE URL ROUTER_ID

For MODE see integration/testdata/wsclient/table.mjs.
"""
import json
import os
import sys
import time
import urllib.parse
import urllib.request

import websocket

AGAIN = 0.2  # seconds
mode, entry, router_id = sys.argv[1:]
trust = {"ca_certs": os.environ["SSL_CERT_FILE"]} if "SSL_CERT_FILE" in os.environ else None


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def locate():
    question = entry.replace("ws", "http", 1) + ".unitgate/locate?routerId=" + router_id
    with urllib.request.urlopen(question, timeout=30) as answer:
        return json.load(answer)["url"]


def elsewhere(url, reason):
    to, own = urllib.parse.urlsplit(reason), urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((to.scheme, to.netloc, own.path, own.query, ""))


def connect(url):
    """Lives with one connection; the result is the code and the reason of the Close that ended it."""
    ws = websocket.create_connection(url, header=["routerId: " + router_id], subprotocols=["chat"], sslopt=trust)
    report("connected")
    try:
        while True:
            kind, data = ws.recv_data()
            if kind == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big"), data[2:].decode()
            report("message", data=data.decode())
    finally:
        ws.shutdown()


def main():
    url = entry
    while True:
        try:
            if mode == "locate":
                url = locate()
                report("corrected", to=url)
            code, reason = connect(url)
            report("closed", code=code, reason=reason)
            if code == 4302 and mode == "close":
                url = elsewhere(url, reason)
                report("corrected", to=url)
                continue
        except Exception as error:  # whatever the library says
            report("error", message=repr(error))
        if mode == "once":
            return
        time.sleep(AGAIN)


main()
