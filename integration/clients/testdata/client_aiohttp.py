"""Python's aiohttp as the table of clients needs it, one JSON line per event on stdout.

    python3 client_aiohttp.py MODE URL ROUTER_ID

For MODE see integration/testdata/wsclient/table.mjs.
"""
import asyncio
import json
import sys
import urllib.parse

import aiohttp

AGAIN = 0.2  # seconds
mode, entry, router_id = sys.argv[1:]


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


async def locate(session):
    async with session.get(entry.replace("ws", "http", 1) + ".unitgate/locate", params={"routerId": router_id}) as answer:
        return (await answer.json())["url"]


def elsewhere(url, reason):
    to, own = urllib.parse.urlsplit(reason), urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((to.scheme, to.netloc, own.path, own.query, ""))


async def connect(session, url):
    """Lives with one connection; the result is the code and the reason of the Close that ended it."""
    async with session.ws_connect(url, headers={"routerId": router_id}, protocols=["chat"]) as ws:
        report("connected")
        while True:
            message = await ws.receive()
            if message.type != aiohttp.WSMsgType.TEXT:
                return ws.close_code, message.extra or ""
            report("message", data=message.data)


async def main():
    url = entry
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                if mode == "locate":
                    url = await locate(session)
                    report("corrected", to=url)
                code, reason = await connect(session, url)
                report("closed", code=code, reason=reason)
                if code == 4302 and mode == "close":
                    url = elsewhere(url, reason)
                    report("corrected", to=url)
                    continue
            except Exception as error:  # whatever the library says
                report("error", message=repr(error))
            if mode == "once":
                return
            await asyncio.sleep(AGAIN)


asyncio.run(main())
