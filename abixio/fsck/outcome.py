"""What came of rebuilding and repairing."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Rebuilt:
    """What came of it, for people and for JSON."""

    slots: list[int]
    from_peers: int = 0
    """Versions that are in the new catalogs because other volumes have them."""
    from_old: int = 0
    """Because the damaged catalog still showed them."""
    from_footers: int = 0
    """Because enough sound shard files name them, and nothing else speaks of them."""
    uploads: int = 0
    """Multipart uploads that came back as open ones."""
    left: int = 0
    """Shards that are not on the volume: repair, or the server, makes them again."""
    buckets: list[str] = field(default_factory=list)
    """Names given to buckets whose own are lost."""
    unknown: list[str] = field(default_factory=list)
    """What cannot be known, in sentences."""
    kept: list[str] = field(default_factory=list)
    """Where the old catalogs are."""
