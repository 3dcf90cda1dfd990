"""Glue to _catalog.h and _catalog_write.h: holds what C reads while it does, and says what came of it. See _catalog.pyi."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.stdint cimport int64_t, uint64_t, uintptr_t
from libc.string cimport memset

from abixio import _sqlio

WRITES = (
    "begin", "commit", "rollback", "savepoint", "undo", "release", "newest", "newest_rev", "row", "insert", "update", "mark", "drop",
    "unsettle", "settle", "head", "behead", "ref", "unref", "refs", "own", "move_refs", "move_rows", "add_inline", "set_inline",
    "drop_inline", "discard", "keep", "note", "raise_note", "count", "last_inline",
)
assert len(WRITES) == W_STATEMENTS
READS = ("rows", "newest", "inline")
cdef enum:
    R_ROWS, R_NEWEST, R_INLINE

cdef void (*_begin)() noexcept nogil
cdef int (*_end)() noexcept nogil
cdef void (*_gather)(void *) noexcept nogil
cdef int (*_scatter)() noexcept nogil
_gates = _sqlio.gates()
_begin = <void (*)() noexcept nogil><uintptr_t>_gates["begin"]
_end = <int (*)() noexcept nogil><uintptr_t>_gates["end"]
_gather = <void (*)(void *) noexcept nogil><uintptr_t>_gates["gather"]
_scatter = <int (*)() noexcept nogil><uintptr_t>_gates["scatter"]

CLOSED = -1
IN_USE = -2


def load(connection, str sql, int version):
    connection.enable_load_extension(True)
    connection.load_extension(__file__, "sqlite3_abixio_init")
    check(connection, sql, version)


def check(connection, str sql, int version):
    cdef uintptr_t where = connection.sqlite3_pointer()
    cdef int wrong = cat_probe(<sqlite3 *>where, sql.encode(), version)
    if wrong:
        raise ImportError(f"the SQLite of apsw is not laid out as it should be (step {wrong} of the check of its functions)")


cdef class Statements:
    """Those of one connection. Not for two calls at a time: a second one is told so."""

    cdef cat_set set
    cdef object connection, fail
    cdef list texts
    cdef bint busy

    def __cinit__(self, connection, fail, texts, *rest):
        cdef uintptr_t where = connection.sqlite3_pointer()
        memset(&self.set, 0, sizeof(cat_set))
        self.connection = connection  # its memory must be there as long as a statement is
        self.fail = fail
        self.texts = [text.encode() for text in texts]
        if len(self.texts) > CAT_MOST:
            raise ValueError(f"{len(self.texts)} statements, where there is room for {CAT_MOST}")
        for at, text in enumerate(self.texts):
            self.set.sql[at] = <const char *><bytes>text
        self.set.db = <sqlite3 *>where

    def __dealloc__(self):
        self._end()

    cdef void _end(self):
        if self.set.db != NULL:
            cat_end(&self.set)
            self.set.db = NULL

    def close(self):
        if self.busy:
            raise self.fail(IN_USE, "is in use")
        self._end()
        self.connection = None

    cdef int take(self) except -1:
        if self.set.db == NULL:
            raise self.fail(CLOSED, "is closed")
        if self.busy:
            raise self.fail(IN_USE, "is in use")
        self.busy = True
        return 0

    cdef int error(self) except -1:
        """An error of a VFS that is written in Python says more than the number that SQLite made of it."""
        if PyErr_Occurred() != NULL:
            return -1
        raise self.fail(self.set.code, (<bytes>self.set.message).decode("utf-8", "replace"))


cdef class Batch:
    """The changes of one transaction as C reads them, and a hold on all that they point to."""

    cdef cat_batch batch
    cdef Py_buffer *held
    cdef Py_ssize_t held_count, held_room, ops_count, ops_room, shards_count, shards_room
    cdef object texts

    def __cinit__(self, Py_ssize_t changes):
        memset(&self.batch, 0, sizeof(cat_batch))
        self.texts = []
        self.batch.changes = <cat_change *>PyMem_Malloc(max(changes, 1) * sizeof(cat_change))
        if self.batch.changes == NULL:
            raise MemoryError
        memset(self.batch.changes, 0, max(changes, 1) * sizeof(cat_change))

    def __dealloc__(self):
        cdef Py_ssize_t at
        for at in range(self.held_count):
            PyBuffer_Release(&self.held[at])
        PyMem_Free(self.held)
        PyMem_Free(self.batch.ops)
        PyMem_Free(self.batch.shards)
        PyMem_Free(self.batch.changes)

    cdef int hold(self, object data, cat_blob *blob) except -1:
        self.held = <Py_buffer *>_grown(self.held, self.held_count, &self.held_room, sizeof(Py_buffer))
        PyObject_GetBuffer(data, &self.held[self.held_count], PyBUF_SIMPLE)
        blob.data = self.held[self.held_count].buf
        blob.length = <uint64_t>self.held[self.held_count].len
        self.held_count += 1
        return 0

    cdef int hold_text(self, str text, cat_blob *blob) except -1:
        cdef Py_ssize_t size
        blob.data = PyUnicode_AsUTF8AndSize(text, &size)
        blob.length = <uint64_t>size
        self.texts.append(text)
        return 0

    cdef int hold_id(self, object row, cat_id *id) except -1:
        if not isinstance(row, tuple):
            raise TypeError(f"not an id: {row!r}")
        self.hold((<tuple>row)[0], &id.space)
        self.hold((<tuple>row)[1], &id.key)
        id.seq = (<tuple>row)[2]
        id.rev = (<tuple>row)[3]
        return 0

    cdef int hold_shards(self, object shards, cat_op *op) except -1:
        op.shards = self.shards_count
        for write_id in shards:
            self.batch.shards = <cat_blob *>_grown(self.batch.shards, self.shards_count, &self.shards_room, sizeof(cat_blob))
            self.hold(write_id, &self.batch.shards[self.shards_count])
            self.shards_count += 1
        op.count = self.shards_count - op.shards
        return 0

    cdef int add(self, Kinds kinds, object change) except -1:
        cdef cat_change *made = &self.batch.changes[self.batch.count]
        cdef cat_op *op
        made.ops = self.ops_count
        for each in change:
            self.batch.ops = <cat_op *>_grown(self.batch.ops, self.ops_count, &self.ops_room, sizeof(cat_op))
            op = &self.batch.ops[self.ops_count]
            memset(op, 0, sizeof(cat_op))
            self.ops_count += 1
            kinds.take(self, each, op)
            made.stores |= op.kind == OP_INSERT and op.guard and op.count > 0
        made.count = self.ops_count - made.ops
        self.batch.count += 1
        return 0


cdef void *_grown(void *old, Py_ssize_t count, Py_ssize_t *room, size_t size) except NULL:
    """Room for one more."""
    cdef void *new
    if count < room[0]:
        return old
    new = PyMem_Realloc(old, (2 * room[0] + 8) * size)
    if new == NULL:
        raise MemoryError
    room[0] = 2 * room[0] + 8
    return new


cdef class Kinds:
    """The classes of operations, whose fields stand in the order of volume/interface.py."""

    cdef object insert, mark, drop, settle, head, note

    def __cinit__(self, insert, mark, drop, settle, head, note):
        self.insert, self.mark, self.drop = insert, mark, drop
        self.settle, self.head, self.note = settle, head, note

    cdef int take(self, Batch batch, object op, cat_op *to) except -1:
        kind = type(op)
        if kind is self.insert:
            return self.take_insert(batch, op, to)
        if kind is self.head:
            return self.take_head(batch, op, to)
        if kind is self.note:
            to.kind = OP_NOTE
            batch.hold_text((<tuple>op)[0], &to.id.key)
            to.id.seq = (<tuple>op)[1]
            return 0
        if kind is self.mark:
            to.kind = OP_MARK
            to.state = (<tuple>op)[1]
            if (<tuple>op)[2] is not None:
                to.addressed = 1
                to.to = (<tuple>op)[2]
        elif kind is self.drop:
            to.kind = OP_DROP
            batch.hold_shards((<tuple>op)[1], to)
        elif kind is self.settle:
            to.kind = OP_SETTLE
        else:
            raise TypeError(f"not an operation: {op!r}")
        return batch.hold_id((<tuple>op)[0], &to.id)

    cdef int take_insert(self, Batch batch, object insert, cat_op *to) except -1:
        op = <tuple>insert
        to.kind = OP_INSERT
        batch.hold_id(op[0], &to.id)
        to.state = op[1]
        to.to = op[2]
        batch.hold(op[3], &to.record)
        batch.hold_shards(op[4], to)
        if op[5] is not None:
            to.brings = 1
            batch.hold(op[5], &to.bytes)
        to.guard = bool(op[6])
        return 0

    cdef int take_head(self, Batch batch, object head, cat_op *to) except -1:
        op = <tuple>head
        batch.hold(op[0], &to.id.space)
        batch.hold(op[1], &to.id.key)
        to.kind = OP_BEHEAD if op[2] is None else OP_HEAD
        if op[2] is not None:
            to.id.seq, to.id.rev = op[2]
        return 0


cdef class Transactions(Statements):
    """Of the connection that writes."""

    cdef Kinds kinds
    cdef object refusal, no_room
    cdef void *room

    def __cinit__(self, connection, fail, texts, kinds, refusal, no_room):
        if len(self.texts) != W_STATEMENTS:
            raise ValueError(f"{len(self.texts)} statements for {W_STATEMENTS}")
        self.room = PyMem_Malloc(_gates["room"])
        if self.room == NULL:
            raise MemoryError
        self.kinds = Kinds(*kinds)
        self.refusal, self.no_room = refusal, no_room
        cat_wal_hook(self.set.db, &cat_hook, &self.set.pages)

    def __dealloc__(self):
        PyMem_Free(self.room)

    def pages(self):
        return self.set.pages

    def emptied(self):
        self.set.pages = 0

    def transact(self, changes, full):
        cdef tuple all = tuple(changes)  # nobody adds to it meanwhile
        cdef Batch batch = Batch(len(all))
        cdef int failed
        for change in all:
            batch.add(self.kinds, change)
        batch.batch.full = full is not None
        batch.batch.set = &self.set
        batch.batch.gather, batch.batch.scatter, batch.batch.room = _gather, _scatter, self.room
        self.take()
        try:
            with nogil:
                failed = cat_transact(&batch.batch)
            if failed or PyErr_Occurred() != NULL:
                self.error()
        finally:
            self.busy = False
        return [self.answer(&batch.batch, at, all, full) for at in range(batch.batch.count)]

    cdef object answer(self, cat_batch *batch, Py_ssize_t at, tuple changes, object full):
        cdef cat_change *change = &batch.changes[at]
        if change.answer == NO_ROOM:
            return self.no_room(full)
        if change.answer == NEWER:
            return self.refusal(changes[at][change.refused - change.ops], (change.seq, change.rev))
        if change.answer == OTHER:
            return self.refusal(changes[at][change.refused - change.ops], None)
        return None


cdef class Lookups(Statements):
    """Of a connection that reads."""

    cdef object blocked, row, row_id
    cdef tuple states
    cdef bint refused

    def __cinit__(self, connection, fail, texts, blocked, row, row_id, states):
        if len(self.texts) != len(READS):
            raise ValueError(f"{len(self.texts)} statements for {len(READS)}")
        self.blocked, self.row, self.row_id, self.states = blocked, row, row_id, tuple(states)

    def rows(self, bytes space not None, bytes key not None, Py_ssize_t limit, bint wait):
        cdef sqlite3_stmt *statement = NULL
        cdef list found = []
        cdef int code
        self.enter(wait)
        try:
            code = self.ask(R_ROWS, space, key, &statement, wait)
            while code == CAT_ROW:
                found.append(self.made(statement, space, key))
                code = self.next(statement, wait) if len(found) < limit else CAT_OK
        finally:
            self.leave(statement, wait)
        if code == CAT_ERROR:
            self.failed()
        return found

    def newest(self, bytes space not None, bytes key not None, bint shard):
        cdef sqlite3_stmt *statement = NULL
        cdef int code
        found = None
        self.enter(False)
        try:
            code = self.ask(R_NEWEST if shard else R_ROWS, space, key, &statement, False)
            if code == CAT_ROW:
                found = self.made(statement, space, key), (_bytes(statement, 6) if shard else None)
        finally:
            self.leave(statement, False)
        if code == CAT_ERROR:
            self.failed()
        return found

    def inline(self, int64_t where, bint wait):
        cdef sqlite3_stmt *statement = NULL
        cdef int code
        found = None
        self.enter(wait)
        try:
            if wait:
                with nogil:
                    code = cat_ask_number(&self.set, R_INLINE, where, &statement)
            else:
                code = cat_ask_number(&self.set, R_INLINE, where, &statement)
            code = CAT_ERROR if PyErr_Occurred() != NULL else code
            if code == CAT_ROW:
                found = _bytes(statement, 0)
        finally:
            self.leave(statement, wait)
        if code == CAT_ERROR:
            self.failed()
        return found

    cdef int enter(self, bint wait) except -1:
        self.take()
        if not wait:
            _begin()
        return 0

    cdef void leave(self, sqlite3_stmt *statement, bint wait) noexcept:
        """Nothing is under way any more, nor bound."""
        if statement != NULL:
            cat_reset(statement)
            cat_clear_bindings(statement)
        self.refused = False if wait else _end() != 0
        self.busy = False

    cdef int failed(self) except -1:
        if not self.refused:
            return self.error()
        PyErr_Clear()
        raise self.blocked()

    cdef int ask(self, int which, bytes space, bytes key, sqlite3_stmt **statement, bint wait) noexcept:
        """The GIL is kept where nothing waits: to win it back costs more than a lookup."""
        cdef cat_blob one, other
        cdef int code
        one.data, one.length = PyBytes_AS_STRING(space), PyBytes_GET_SIZE(space)
        other.data, other.length = PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
        if wait:
            with nogil:
                code = cat_ask(&self.set, which, one, other, statement)
        else:
            code = cat_ask(&self.set, which, one, other, statement)
        return CAT_ERROR if PyErr_Occurred() != NULL else code

    cdef int next(self, sqlite3_stmt *statement, bint wait) noexcept:
        cdef int code
        if wait:
            with nogil:
                code = cat_first(&self.set, statement, CAT_OK)
        else:
            code = cat_first(&self.set, statement, CAT_OK)
        return CAT_ERROR if PyErr_Occurred() != NULL else code

    cdef object made(self, sqlite3_stmt *statement, bytes space, bytes key):
        """A row of seq, rev, state, mask, record, inline. One whose state cannot be has an empty record, which no hash matches."""
        cdef int64_t state = cat_column_int64(statement, 2)
        cdef bint known = 0 <= state < len(self.states)
        id = tuple.__new__(self.row_id, (space, key, cat_column_int64(statement, 0), cat_column_int64(statement, 1)))
        return tuple.__new__(self.row, (
            id, self.states[state if known else 0], cat_column_int64(statement, 3), _bytes(statement, 4) if known else b"",
            None if cat_column_type(statement, 5) == CAT_NULL else cat_column_int64(statement, 5),
        ))


cdef object _bytes(sqlite3_stmt *statement, int at):
    if cat_column_type(statement, at) == CAT_NULL:
        return None
    cdef const char *data = <const char *>cat_column_blob(statement, at)
    return PyBytes_FromStringAndSize(data, cat_column_bytes(statement, at))
