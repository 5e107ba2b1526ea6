"""What every Python client of the table does, one JSON line per event on stdout. A client is a script

    python3 SCRIPT MODE URL ROUTER_ID

For MODE see integration/testdata/wsclient/course.mjs.
"""
import asyncio
import json
import sys
import urllib.parse
import urllib.request

AGAIN = 0.2  # seconds
mode, entry, router_id = sys.argv[1:]
headers = {"routerId": router_id}


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def locate():
    question = entry.replace("ws", "http", 1) + ".unitgate/locate?routerId=" + router_id
    with urllib.request.urlopen(question, timeout=30) as answer:
        return json.load(answer)["url"]


def elsewhere(url, reason):
    to, own = urllib.parse.urlsplit(reason), urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((to.scheme, to.netloc, own.path, own.query, ""))


async def course(connect):
    url = entry
    while True:
        try:
            if mode == "locate":
                url = await asyncio.to_thread(locate)
                report("corrected", to=url)
            code, reason = await connect(url)
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


def run(connect):
    """Lives with one connection after another; connect(url) gives the code and the reason of the Close that ended it."""
    asyncio.run(course(connect))
