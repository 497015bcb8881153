#!/usr/bin/python3
"""Python's websockets on strings: obeys one JSON order a line, and prints one JSON event a line. puppet.py says which.

    websockets_puppet.py server        prints {"event":"listening","port":N}, takes one connection
    websockets_puppet.py client PORT [SUBPROTOCOL]
"""

import asyncio
import base64
import json
import os
import sys

import websockets


def say(**event):
    print(json.dumps(event), flush=True)


def encoded(data):
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


async def report_pong(pong, data):
    await pong
    say(event="pong", data=encoded(data))


async def fragments(socket, order):
    """The parts of one message; text is cut between characters only, for this library takes str and not bytes."""
    for index, part in enumerate(order["parts"]):
        if index and order["ping"]:
            await socket.ping(b"between %d" % index)
        data = base64.b64decode(part)
        yield data if order["binary"] else data.decode()


async def obey(socket, order, tasks):
    data = base64.b64decode(order.get("data", ""))
    if order["do"] == "text":
        await socket.send(data.decode())
    elif order["do"] == "binary":
        await socket.send(data)
    elif order["do"] == "fragments":
        await socket.send(fragments(socket, order))
    elif order["do"] == "ping":
        tasks.append(asyncio.create_task(report_pong(await socket.ping(data), data)))
    elif order["do"] == "close":
        tasks.append(asyncio.create_task(socket.close(order["code"] or 1000, data.decode())))
    elif order["do"] == "vanish":
        socket.transport.abort()


async def converse(socket):
    say(event="open", extensions=",".join(map(str, socket.extensions)), protocol=socket.subprotocol or "")
    loop, tasks = asyncio.get_running_loop(), []

    async def read_orders():
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            await obey(socket, json.loads(line), tasks)

    orders = asyncio.create_task(read_orders())
    try:
        async for message in socket:
            say(event="text" if isinstance(message, str) else "binary", data=encoded(message))
    except websockets.ConnectionClosedError:
        pass
    await socket.wait_closed()
    say(event="closed", code=socket.close_code, reason=socket.close_reason)
    orders.cancel()


async def main(role, port=None, subprotocol=None):
    # compression="deflate" is the default: a client offers permessage-deflate, a server accepts it where it is offered.
    options = {"max_size": None, "ping_interval": None}
    if role == "server":
        done = asyncio.get_running_loop().create_future()

        async def handler(socket):
            await converse(socket)
            done.set_result(None)

        server = await websockets.serve(handler, "127.0.0.1", 0, **options)
        say(event="listening", port=server.sockets[0].getsockname()[1])
        await done
    else:
        protocols = [subprotocol] if subprotocol else None
        async with websockets.connect(f"ws://127.0.0.1:{port}/", subprotocols=protocols, **options) as socket:
            await converse(socket)


if __name__ == "__main__":
    try:
        asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 60))
    except (OSError, websockets.WebSocketException) as error:
        say(event="error", message=str(error))
    # A thread may still wait for an order that will not come.
    sys.stdout.flush()
    os._exit(0)
