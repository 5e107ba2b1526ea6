"""Python's websockets as the table of clients needs it; see course.py."""
import websockets

from course import headers, report, run


async def connect(url):
    async with websockets.connect(url, extra_headers=headers, subprotocols=["chat"], open_timeout=30) as ws:
        report("connected")
        try:
            async for message in ws:
                report("message", data=message)
        except websockets.ConnectionClosed:
            pass
        return ws.close_code, ws.close_reason


run(connect)
