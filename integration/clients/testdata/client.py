"""Python's websockets as the table of clients needs it, one JSON line per event on stdout.

    python3 client.py MODE URL ROUTER_ID

For MODE see integration/testdata/wsclient/table.mjs.
"""
import asyncio
import json
import sys
import urllib.parse
import urllib.request

import websockets

AGAIN = 0.2  # seconds
mode, entry, router_id = sys.argv[1:]


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def locate():
    question = entry.replace("ws", "http", 1) + ".unitgate/locate?routerId=" + router_id
    with urllib.request.urlopen(question, timeout=30) as answer:
        return json.load(answer)["url"]


def elsewhere(url, reason):
    to, own = urllib.parse.urlsplit(reason), urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((to.scheme, to.netloc, own.path, own.query, ""))


async def main():
    url = entry
    while True:
        try:
            if mode == "locate":
                url = await asyncio.get_running_loop().run_in_executor(None, locate)
                report("corrected", to=url)
            async with websockets.connect(url, extra_headers={"routerId": router_id}, subprotocols=["chat"], open_timeout=30) as ws:
                report("connected")
                try:
                    async for message in ws:
                        report("message", data=message)
                except websockets.ConnectionClosed:
                    pass
                report("closed", code=ws.close_code, reason=ws.close_reason)
                if ws.close_code == 4302 and mode == "close":
                    url = elsewhere(url, ws.close_reason)
                    report("corrected", to=url)
                    continue
        except Exception as error:  # whatever the library says
            report("error", message=repr(error))
        if mode == "once":
            return
        await asyncio.sleep(AGAIN)


asyncio.run(main())
