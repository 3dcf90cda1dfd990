"""Pages of a listing with every doubt removed: what the lister leaves open is settled under the key lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from abixio.store.commit import Committer
from abixio.store.lister import Lister, Page, Query
from abixio.store.lookup import Found
from abixio.store.pace import Pace, paced


@dataclass(frozen=True, slots=True)
class SurePage:
    """What is visible: by key in order, and common prefixes in order; `last` is the last of both that was covered."""

    found: Mapping[bytes, Found]
    prefixes: list[bytes]
    truncated: bool
    last: bytes


class Pages:
    """Gets pages without blocking the loop."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer

    def _page(self, query: Query, pace: Pace) -> Page:
        return Lister(self._committer, pace).page(query)

    async def empty(self, space: bytes) -> bool:
        """Whether nothing is visible in a space, and nothing that any volume lists there is: one that forgot its keys must not
        decide alone."""
        if (await self.get(Query(space, b"", b"", b"", 1))).found:
            return False
        keys = await paced(self._committer.pool, lambda pace: Lister(self._committer, pace).first(space))
        for key in keys:
            if await self._committer.current(space, key, reading=False) is not None:
                return False
        return True

    async def get(self, query: Query) -> SurePage:
        """The next page; empty only when nothing is left."""
        pool = self._committer.pool
        while True:
            page = await paced(pool, partial(self._page, query))
            found: dict[bytes, Found] = {}
            for key, seen in page.entries.items():
                sure = seen if seen is not None else await self._committer.current(query.space, key, reading=False)
                if sure is not None and sure.record.kind != "marker":
                    found[key] = sure
            if found or page.prefixes or not page.truncated:
                return SurePage(found, page.prefixes, page.truncated, page.last)
            query = replace(query, start=page.last + b"\0")
