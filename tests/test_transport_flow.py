"""Write flow control."""

from __future__ import annotations

import asyncio

import pytest

from abixio.errors import ClientDisconnected
from abixio.transport.flow import Flow


@pytest.fixture
async def flow() -> Flow:
    return Flow(asyncio.get_running_loop())


async def test_nobody_waits_while_there_is_room(flow: Flow) -> None:
    await asyncio.wait_for(flow.drain(), 1)


async def test_the_producer_waits_until_there_is_room_again(flow: Flow) -> None:
    flow.pause()
    flow.pause()
    waiter = asyncio.create_task(flow.drain())
    await asyncio.sleep(0)
    assert not waiter.done()
    flow.resume()
    flow.resume()
    await waiter
    await asyncio.wait_for(flow.drain(), 1)


async def test_a_lost_connection_ends_the_wait_and_every_later_one(flow: Flow) -> None:
    flow.pause()
    waiter = asyncio.create_task(flow.drain())
    await asyncio.sleep(0)
    flow.lose()
    flow.lose()
    flow.resume()
    with pytest.raises(ClientDisconnected):
        await waiter
    with pytest.raises(ClientDisconnected):
        await flow.drain()


async def test_a_cancelled_producer_leaves_nothing_behind(flow: Flow) -> None:
    flow.pause()
    waiter = asyncio.create_task(flow.drain())
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    flow.resume()
    await asyncio.wait_for(flow.drain(), 1)
