"""Python's websocket-client as the table of clients needs it; see course.py."""
import asyncio
import os

import websocket

from course import headers, report, run

trust = {"ca_certs": os.environ["SSL_CERT_FILE"]} if "SSL_CERT_FILE" in os.environ else None


def connect(url):
    ws = websocket.create_connection(url, header=headers, subprotocols=["chat"], sslopt=trust)
    report("connected")
    try:
        while True:
            kind, data = ws.recv_data()
            if kind == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big"), data[2:].decode()
            report("message", data=data.decode())
    finally:
        ws.shutdown()


run(lambda url: asyncio.to_thread(connect, url))
