"""The rows of the matrix: for every way to change the store, what stands before, and what is played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.crash.bases import Crash, large, small
from tests.crash.run import Run, Script, if_none_match

READS: Final = frozenset((
    "bucket", "buckets", "head", "open", "list", "upload", "parts", "uploads", "inspect", "repair_status", "config", "configs",
    "versions", "at_hand", "bucket_at_hand",
))
"""Methods of the store that change nothing."""
NOT_OPERATIONS: Final = frozenset(("start", "aclose", "n", "pool", "settler", "committer", "journal"))
"""Its life and its parts: opening, settling, repair and closing belong to every row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operation of the store under attack."""

    name: str
    methods: frozenset[str]
    """What of the store it is a row for; a test sees that they are called, and that what is called "... in one call" was done in
    one."""
    script: Script
    n: int = 3
    base: str = "plain"
    """Which of BASES or CRASHES stands before."""
    short_log: bool = False
    """Checkpoints come every few pages, and the log is full after a few more."""


ROWS: Final[list[Row]] = []


def row(*methods: str, n: int = 3, base: str = "plain", short_log: bool = False) -> Callable[[Script], Script]:
    def add(script: Script) -> Script:
        ROWS.append(Row(script.__name__.replace("_", " "), frozenset(methods), script, n, base, short_log))
        return script

    return add


# ---- buckets ---------------------------------------------------------------------------------------------------------
@row("create_bucket")
async def create_a_bucket(run: Run) -> None:
    await run.create_bucket("new")
    await run.settle()


@row("delete_bucket")
async def create_and_delete_a_bucket(run: Run) -> None:
    await run.create_bucket("new")
    await run.delete_bucket("new")
    await run.create_bucket("new")
    await run.settle()


@row("delete_bucket", base="uploading")
async def delete_a_bucket_with_uploads(run: Run) -> None:
    for key in ("small", "large", "wide", "other/small", "other/large"):
        await run.delete(key)
    await run.settle()
    await run.delete_bucket("b", ("upload", "b", "large", "up"), ("upload", "b", "large", "other"))
    await run.settle()


# ---- objects ---------------------------------------------------------------------------------------------------------
@row("put")
async def put_inline(run: Run) -> None:
    await run.put("new", small("new"))
    await run.settle()


@row("put", n=4)
async def put_a_file(run: Run) -> None:
    await run.put("new", large("new"))
    await run.settle()


@row("put")
async def overwrite_small_with_large_with_small(run: Run) -> None:
    await run.put("small", large("b"))
    await run.put("small", small("c"))
    await run.settle()


@row("put")
async def overwrite_large_with_small_with_large(run: Run) -> None:
    await run.put("large", small("b"))
    await run.settle()
    await run.put("large", large("c"))
    await run.settle()


@row("put", n=4)
async def overwrite_with_another_fault_tolerance(run: Run) -> None:
    await run.put("wide", large("b"), ftt="0")
    await run.put("wide", large("c"), ftt="2")
    await run.settle()


@row("put")
async def put_without_parity(run: Run) -> None:
    await run.put("small", small("b"))
    await run.cycle()
    await run.put("large", small("b"))
    await run.put("bare", large("bare"), ftt="0")
    await run.put("small", small("c"), ftt="0")
    await run.settle()


@row("put", "delete", short_log=True)
async def overwrite_while_the_log_is_emptied(run: Run) -> None:
    await run.put("large", small("b"))
    await run.cycle()
    await run.put("large", large("c"))
    await run.delete("small")
    await run.settle()


@row("put")
async def put_when_there_is_none(run: Run) -> None:
    await run.put("new", small("a"), condition=if_none_match)
    await run.put("new", small("b"), condition=if_none_match)
    await run.put("large", large("b"), condition=if_none_match)
    await run.settle()


@row("append")
async def append_small_to_small_and_large_to_that(run: Run) -> None:
    await run.append("log", small("a"))
    await run.append("log", small("a"), small("b"))
    await run.append("log", small("a"), small("b"), large("c"))
    await run.settle()
    await run.append("log", small("a"), small("b"), large("c"), small("d"))
    await run.settle()


@row("append", "delete", n=4)
async def append_at_the_end_and_elsewhere_and_delete(run: Run) -> None:
    await run.append("log", large("a"))
    await run.append("log", large("a"), large("b"))
    await run.append("log", large("a"), small("x"))
    await run.delete("log")
    await run.append("log", small("c"))
    await run.settle()


@row("rename", n=4)
async def rename_what_is_inline_and_what_is_in_files(run: Run) -> None:
    await run.rename("large", "new", large("large"))
    await run.settle()
    await run.rename("small", "other/new", small("small"))
    await run.rename("wide", "new", large("wide"), ftt="3")
    await run.settle()
    await run.settle()


@row("rename", "put", "delete")
async def rename_over_an_object_and_write_to_both_keys(run: Run) -> None:
    await run.rename("large", "small", large("large"))
    await run.put("large", small("b"))
    await run.put("small", large("c"))
    await run.rename("small", "large", large("c"))
    await run.delete("large")
    await run.settle()
    await run.settle()


@row("rename", "put", n=2)
async def rename_from_key_to_key_and_back(run: Run) -> None:
    await run.rename("large", "a", large("large"))
    await run.rename("a", "b", large("large"))
    await run.cycle()
    await run.rename("b", "large", large("large"))
    await run.put("a", small("a"))
    await run.settle()
    await run.settle()


@row("delete", n=4)
async def delete_inline(run: Run) -> None:
    await run.delete("small")
    await run.settle()


@row("delete")
async def delete_a_file(run: Run) -> None:
    await run.delete("large")
    await run.settle()


@row("delete", "put")
async def delete_and_put_again(run: Run) -> None:
    await run.delete("large")
    await run.put("large", large("b"))
    await run.delete("large")
    await run.settle()
    await run.settle()


# ---- small writes in one call ----------------------------------------------------------------------------------------
PUT_AT_ONCE: Final = ("put_at_once", "put_at_once in one call")
DELETE_AT_ONCE: Final = ("delete_at_once", "delete_at_once in one call")


@row(*PUT_AT_ONCE, n=4)
async def put_at_once(run: Run) -> None:
    await run.put_at_once("new", small("new"))
    await run.put_at_once("small", small("b"))
    await run.put_at_once("large", small("b"), ftt="0")
    await run.put_at_once("new", small("c"), condition=if_none_match)
    await run.settle()


@row(*PUT_AT_ONCE, n=1)
async def put_at_once_on_one_volume(run: Run) -> None:
    await run.put_at_once("new", small("new"))
    await run.put_at_once("small", small("b"))
    await run.put_at_once("small", small("c"))
    await run.put_at_once("new", small("d"), condition=if_none_match)
    await run.settle()


@row(*PUT_AT_ONCE, "put", n=1)
async def put_at_once_over_files_and_files_over_that(run: Run) -> None:
    await run.put_at_once("large", small("b"))
    await run.put_at_once("large", small("c"))
    await run.settle()
    await run.put_at_once("large", small("d"))
    await run.put("small", large("b"))
    await run.put_at_once("small", small("c"))
    await run.put("large", large("e"))
    await run.settle()


@row(*DELETE_AT_ONCE, n=4)
async def delete_at_once(run: Run) -> None:
    await run.delete_at_once("small")
    await run.delete_at_once("large")
    await run.delete_at_once("nothing")
    await run.settle()
    await run.settle()


@row(*DELETE_AT_ONCE, *PUT_AT_ONCE, n=1, short_log=True)
async def delete_at_once_on_one_volume_and_put_again(run: Run) -> None:
    await run.delete_at_once("small")
    await run.delete_at_once("small")
    await run.delete_at_once("large")
    await run.put_at_once("small", small("b"))
    await run.delete_at_once("small")
    await run.put_at_once("large", small("b"))
    await run.settle()
    await run.delete_at_once("large")
    await run.settle()


@row(*PUT_AT_ONCE, *DELETE_AT_ONCE)
async def put_and_delete_at_once_and_not(run: Run) -> None:
    await run.put_at_once("small", small("b"))
    await run.put("small", large("c"))
    await run.delete("small")
    await run.put_at_once("small", small("d"))
    await run.put_at_once("new", small("a"))
    await run.delete_at_once("new")
    await run.put("new", small("b"))
    await run.cycle()
    await run.delete_at_once("other/small")
    await run.settle()
    await run.settle()


# ---- by rules, and copies --------------------------------------------------------------------------------------------
@row("lifecycle", "set_config", "put")
async def expire_a_file_and_put_it_again(run: Run) -> None:
    await run.expire("large")
    await run.settle()
    await run.put("large", large("b"))
    await run.settle()


@row("open", "put")
async def copy_a_file(run: Run) -> None:
    await run.copy("large", "small", large("large"))
    await run.copy("other/small", "large", small("other/small"))
    await run.settle()


# ---- uploads ---------------------------------------------------------------------------------------------------------
@row("create_upload")
async def create_an_upload(run: Run) -> None:
    await run.create_upload("new", "a")
    await run.settle()


@row("put_part", base="uploading")
async def put_a_part(run: Run) -> None:
    await run.put_part("large", "up", 3, large("three"))
    await run.settle()


@row("put_part", base="uploading")
async def put_a_part_again(run: Run) -> None:
    await run.put_part("large", "up", 2, large("again"))
    await run.put_part("large", "up", 2, small("third"))
    await run.settle()


@row("complete_upload", base="uploading")
async def complete_an_upload(run: Run) -> None:
    await run.complete("large", "up", {1: large("one"), 2: large("two")})
    await run.settle()


@row("complete_upload", "put_part", "create_upload", base="uploading")
async def upload_from_first_to_last(run: Run) -> None:
    await run.create_upload("new", "mine")
    await run.put_part("new", "mine", 1, large("mine"))
    await run.put_part("new", "mine", 2, small("last"))
    await run.complete("new", "mine", {1: large("mine")})
    await run.settle()


@row("abort_upload", base="uploading", n=4)
async def abort_an_upload(run: Run) -> None:
    await run.abort("large", "up")
    await run.settle()


# ---- repair ----------------------------------------------------------------------------------------------------------
@row("heal", base="rotten")
async def heal_rotten_shards(run: Run) -> None:
    for key in ("large", "other/large", "wide", "small", "other/small"):
        await run.heal(key)
    await run.settle()


@row("scan_now", base="rotten")
async def scan_what_is_rotten(run: Run) -> None:
    await run.scan()
    await run.settle()


@row("scan_now", base="uploading")
async def scan_beside_an_upload(run: Run) -> None:
    await run.put_part("large", "up", 2, large("again"))
    await run.scan()
    await run.complete("large", "up", {1: large("one"), 2: large("again")})
    await run.delete("other/large")
    await run.scan()
    await run.settle()


@row("reencode")
async def reencode(run: Run) -> None:
    await run.reencode("large", "2")
    await run.settle()
    await run.reencode("large", "0")
    await run.reencode("small", "2")
    await run.settle()


@row("complete_upload", "reencode", base="uploading")
async def reencode_what_was_uploaded(run: Run) -> None:
    await run.complete("large", "up", {1: large("one"), 2: large("two")})
    await run.reencode("large", "2")
    await run.settle()


@row("reencode", "put", "delete")
async def overwrite_and_delete_what_is_reencoded(run: Run) -> None:
    await run.reencode("large", "2")
    await run.put("large", large("b"))
    await run.reencode("small", "0")
    await run.delete("small")
    await run.settle()


@row(base="emptied")
async def refill_a_blank_disk(run: Run) -> None:
    await run.put("small", large("b"))
    await run.refill(1)
    await run.settle()


@row(base="set back")
async def refill_a_disk_that_was_set_back(run: Run) -> None:
    await run.refill(2)
    await run.put("new", large("b"))
    await run.settle()


@row("discard", base="undecided")
async def discard_what_is_undecided(run: Run) -> None:
    for key in ("small", "large"):
        await run.discard(key)
    await run.put("small", small("b"))
    await run.refill(1)
    await run.settle()


# ---- what is said of buckets and objects -----------------------------------------------------------------------------
@row("change_bucket", n=4)
async def change_the_settings_of_a_bucket(run: Run) -> None:
    await run.change_bucket("b", "one")
    await run.put("small", small("b"))
    await run.change_bucket("b", "two")
    await run.settle()


@row("set_config", n=4)
async def keep_and_forget_a_document_of_a_bucket(run: Run) -> None:
    await run.set_config("cors", "one")
    await run.set_config("cors", "two")
    await run.settle()
    await run.set_config("cors", None)
    await run.set_config("tags", "one")
    await run.settle()


@row("amend", "put")
async def tag_what_is_inline_and_what_is_in_files(run: Run) -> None:
    for key in ("small", "large"):
        await run.tag(key, "one")
        await run.tag(key, "two")
    await run.settle()
    await run.tag("large", "three")
    await run.put("large", small("b"))
    await run.settle()


# ---- versions --------------------------------------------------------------------------------------------------------
@row("put", base="versioned")
async def new_versions(run: Run) -> None:
    await run.new("new", small("new"))
    await run.new("files", small("d"))
    await run.new("inline", large("d"))
    await run.settle()


@row("put", base="versioned", n=2)
async def new_versions_on_two_volumes(run: Run) -> None:
    await run.new("files", large("d"))
    await run.cycle()
    await run.new("files", small("e"))
    await run.kill("files", large("d"))
    await run.settle()


@row("delete", "put", base="versioned", n=4)
async def mark_a_key_deleted_and_put_it_again(run: Run) -> None:
    await run.mark_deleted("files")
    await run.mark_deleted("nothing")
    await run.new("files", small("d"))
    await run.settle()


@row("delete", base="versioned")
async def delete_versions(run: Run) -> None:
    await run.kill("files", large("b"))
    await run.kill("files", large("c"))
    await run.settle()
    await run.kill("inline", small("c"))
    await run.settle()
    await run.settle()


@row("delete", base="versioned", n=4)
async def delete_a_delete_marker(run: Run) -> None:
    await run.kill("gone", "marker")
    await run.cycle()
    await run.kill("large", large("first"))
    await run.settle()
    await run.settle()


@row("change_bucket", "put", "delete", base="versioned")
async def suspend_and_overwrite_the_null_version(run: Run) -> None:
    await run.versioning("Suspended")
    await run.new("large", large("second"))
    await run.cycle()
    await run.new("large", small("third"))
    await run.new("files", large("null"))
    await run.settle()
    await run.mark_deleted("large")
    await run.kill("files", large("null"))
    await run.settle()
    await run.settle()


@row("change_bucket", "put", "delete", base="versioned", n=4)
async def overwrite_the_null_version_and_delete_it(run: Run) -> None:
    await run.versioning("Suspended")
    await run.new("small", small("second"))
    await run.kill("small", small("second"))
    await run.settle()
    await run.mark_deleted("large")
    await run.kill("large", "marker")
    await run.settle()
    await run.settle()


@row("complete_upload", "put_part", base="versioned")
async def complete_an_upload_onto_versions(run: Run) -> None:
    await run.create_upload("files", "up", "v")
    await run.put_part("files", "up", 1, large("one"), "v")
    await run.put_part("files", "up", 2, small("two"), "v")
    await run.complete_version("files", "up", {1: large("one"), 2: small("two")})
    await run.kill("files", large("c"))
    await run.settle()


@row("lifecycle", "set_config", "put", base="versioned")
async def expire_old_versions_and_put_another(run: Run) -> None:
    await run.expire_old("files", large("b"), large("a"))
    await run.settle()
    await run.new("files", small("d"))
    await run.settle()
    await run.settle()


@row("lifecycle", "set_config", base="versioned", n=4)
async def expire_the_last_version_and_its_delete_marker(run: Run) -> None:
    await run.expire_old("gone", large("gone"), markers=True)
    await run.settle()
    await run.settle()


@row("lifecycle", "set_config", base="uploading")
async def expire_uploads(run: Run) -> None:
    await run.expire_uploads("large", "up", "other")
    await run.settle()
    await run.settle()


@row("amend", "delete", base="versioned")
async def tag_old_versions(run: Run) -> None:
    await run.say("files", large("a"), "one")
    await run.say("inline", small("b"), "one")
    await run.say("files", large("a"), "two")
    await run.settle()
    await run.say("inline", small("b"), "two")
    await run.kill("inline", small("b"))
    await run.settle()
    await run.settle()


@row("amend", "delete", base="versioned", n=4)
async def hold_a_version_and_let_it_go(run: Run) -> None:
    await run.say("files", large("b"), "ON")
    await run.kill("files", large("b"))
    await run.say("files", large("b"), "OFF")
    await run.settle()
    await run.kill("files", large("b"))
    await run.settle()
    await run.settle()


@row("reencode", "amend", "delete", base="versioned")
async def reencode_the_newest_version(run: Run) -> None:
    await run.rework("files", "2")
    await run.say("files", large("c"), "one")
    await run.rework("inline", "0")
    await run.kill("inline", small("c"))
    await run.settle()
    await run.settle()


@row("heal", "scan_now", base="rotten versions")
async def heal_and_scan_rotten_versions(run: Run) -> None:
    await run.rework("files", None)
    await run.rework("inline", None)
    await run.kill("files", large("a"))
    await run.scan()
    await run.settle()


@row(base="emptied versions")
async def refill_a_blank_disk_with_versions(run: Run) -> None:
    await run.kill("files", large("b"))
    await run.new("inline", small("d"))
    await run.refill(1)
    await run.settle()


@row("change_bucket", "put", "delete", base="unversioned")
async def begin_to_keep_versions(run: Run) -> None:
    await run.new("large", small("second"))
    await run.versioning("Enabled")
    await run.new("large", large("third"))
    await run.mark_deleted("small")
    await run.settle()
    await run.kill("large", small("second"))
    await run.settle()
    await run.settle()


@row("delete_bucket", "delete", base="unversioned", n=4)
async def delete_a_bucket_that_had_versions(run: Run) -> None:
    await run.versioning("Enabled")
    await run.new("large", large("second"))
    await run.mark_deleted("small")
    for key, value in (("large", large("second")), ("large", large("first")), ("small", "marker"), ("small", small("first"))):
        await run.kill(key, value)
    await run.delete_bucket("v", ("versioning", "v"))
    await run.settle()
    await run.settle()


# ---- crashes in the repair of a crash --------------------------------------------------------------------------------
CRASHES: Final[dict[str, Crash]] = {}


async def repair_and_go_on(run: Run) -> None:
    await run.repair()
    await run.put("large", large("after"))
    await run.settle()


async def repair_and_go_on_with_versions(run: Run) -> None:
    await run.repair()
    await run.new("files", large("after"))
    await run.kill("files", large("c"))
    await run.settle()


def _cut_short() -> None:
    names = ("overwrite large with small with large", "delete and put again", "reencode", "upload from first to last")
    versions = ("delete versions", "suspend and overwrite the null version")
    for script, chosen in ((repair_and_go_on, names), (repair_and_go_on_with_versions, versions)):
        for name in chosen:
            for share, cut in ((0.4, "keep"), (0.55, "mixed")):
                title = f"repair {name}, {cut} at {share:.0%}"
                CRASHES[title] = Crash(name, share, cut)
                ROWS.append(Row(title, frozenset(("put",)), script, 3, title))
            title = f"repair {name}, killed in page-cache"
            CRASHES[title] = Crash(name, 0.6, "keep", "page-cache")
            ROWS.append(Row(title, frozenset(("put",)), script, 3, title))


_cut_short()
