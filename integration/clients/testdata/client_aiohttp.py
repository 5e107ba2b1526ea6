"""Python's aiohttp as the table of clients needs it; see course.py."""
import aiohttp

from course import headers, report, run


async def connect(url):
    async with aiohttp.ClientSession() as session, session.ws_connect(url, headers=headers, protocols=["chat"]) as ws:
        report("connected")
        while True:
            message = await ws.receive()
            if message.type != aiohttp.WSMsgType.TEXT:
                return ws.close_code, message.extra or ""
            report("message", data=message.data)


run(connect)
