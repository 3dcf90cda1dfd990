"""One key, or one upload, under the rules of its bucket: judged, and again under the key's lock before anything is deleted.

So what was overwritten, tagged, locked or brought back meanwhile stays, and nothing goes by rules that were taken away.
Each deletion is a draft through the one commit, as that of a client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from abixio.errors import NoSuchUpload, Unavailable
from abixio.store.bucketstore import Buckets
from abixio.store.commit import Committer
from abixio.store.completion import Completion
from abixio.store.configs import Configs
from abixio.store.lifecycle_rules import CONFIG, Calendar, Judgement, abortion, decode, judge, now
from abixio.store.multipart import TAIL, uploads_space
from abixio.store.objects import Objects
from abixio.store.record import Record
from abixio.store.resolve import Fate, View
from abixio.store.types import Bucket, always
from abixio.store.versions import EVERY, VERSION_KINDS, walk

AT_A_TIME: Final = 100
"""Versions deleted under one hold of a key's lock: clients that wait for it get their turn in between."""


class RulesChanged(Exception):
    """The bucket has other rules now, or none: whoever goes by the old ones has to stop."""


class Executor:
    """Carries out what is due, key by key."""

    def __init__(
        self, committer: Committer, buckets: Buckets, configs: Configs, objects: Objects, completion: Completion,
        calendar: Calendar,
    ) -> None:
        self._committer = committer
        self._buckets = buckets
        self._configs = configs
        self._objects = objects
        self._completion = completion
        self._calendar = calendar
        self.deleted = 0
        """Versions, markers and uploads."""
        self._running: set[asyncio.Task[Judgement]] = set()

    async def key(self, bucket: Bucket, document: str, key: bytes) -> int | None:
        """Delete what is due of a key; when it has to be judged again, if it has to be. Unavailable when that cannot be told now;
        RulesChanged."""
        view = await self._committer.view(bucket.space, key, lambda view: False)
        versions = self._visible(view)
        judged = None if versions is None else self._judge(document, versions)
        while judged is None or judged.dooms:
            judged = await self._sheltered(self._expire(bucket, document, key))
        return judged.later

    async def _sheltered(self, work: Coroutine[Any, Any, Judgement]) -> Judgement:
        """Run commits to their end also when the runner is told to stop. (Not as a client's: the runner steps back for those.)"""
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for the commits under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _judge(self, document: str, versions: list[Record]) -> Judgement:
        return judge(decode(document), versions, now(), self._calendar)

    async def _expire(self, bucket: Bucket, document: str, key: bytes) -> Judgement:
        """Judge under the key's lock, and delete what is due; it is over when nothing was."""
        committer = self._committer
        async with self._buckets.kept(bucket) as kept, committer.locks.exclusive(bucket.space, key):
            await self._check_rules(kept, document)
            view = await committer.view(bucket.space, key, lambda view: False)
            versions = self._visible(await committer.settled(view, EVERY))
            if versions is None:
                raise Unavailable("an unfinished write cannot be settled with these volumes")
            judged = self._judge(document, versions)
            del judged.dooms[AT_A_TIME:]
            for doom in judged.dooms:
                await self._objects.delete_kept(kept, key, always, doom.of, False, committer.commit_locked)
                self.deleted += 1
            return judged

    def _visible(self, view: View) -> list[Record] | None:
        """All versions of a key, newest first; None when only the key lock can tell. Unavailable when there may be more: then
        nobody knows whether a delete marker hides anything."""
        if view.vouching < self._committer.pool.quorum.r:
            raise Unavailable(f"only {view.vouching} volumes can tell what is there")
        found: list[Record] = []
        for version, fate in walk(view):
            if fate is Fate.COMMITTED:
                if version.record.kind in VERSION_KINDS:
                    found.append(version.record)
            elif fate is not Fate.ABORTED:
                return None
        return found

    async def upload(self, bucket: Bucket, document: str, name: bytes) -> None:
        """Abort an upload that is due. As `key`."""
        found = await self._committer.current(uploads_space(bucket), name)
        if found is None:
            return
        key = name[:-TAIL].decode()
        due = abortion(decode(document), key, found.record.modified, self._calendar)
        if due is None or due[0] > now():
            return
        await self._check_rules(bucket, document)
        try:
            await self._completion.abort(bucket, key, name[-16:].hex())
        except NoSuchUpload:
            return
        self.deleted += 1

    async def _check_rules(self, bucket: Bucket, document: str) -> None:
        if await self._configs.get(bucket, CONFIG) != document:
            raise RulesChanged
