"""What _catalog.pyx takes from its headers."""

from libc.stdint cimport int64_t, uint64_t

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef extern from "_catalog_write.h" nogil:
    ctypedef struct sqlite3
    ctypedef struct sqlite3_stmt
    ctypedef struct cat_blob:
        const void *data
        uint64_t length
    ctypedef struct cat_set:
        sqlite3 *db
        const char **sql
        int pages
        int code
        char *message
    ctypedef struct cat_id:
        cat_blob space
        cat_blob key
        int64_t seq
        int64_t rev
    ctypedef enum cat_kind:
        OP_INSERT, OP_MARK, OP_DROP, OP_SETTLE, OP_HEAD, OP_BEHEAD, OP_NOTE
    ctypedef struct cat_op:
        cat_kind kind
        int guard, addressed, brings, idle
        cat_id id
        int64_t state, to
        cat_blob record, bytes
        Py_ssize_t shards, count
    ctypedef enum cat_answer:
        NO_ROOM, NEWER, OTHER
    ctypedef struct cat_change:
        Py_ssize_t ops, count
        int stores
        cat_answer answer
        Py_ssize_t refused
        int64_t seq, rev
    ctypedef struct cat_batch:
        cat_set *set
        cat_op *ops
        cat_blob *shards
        cat_change *changes
        Py_ssize_t count
        int full
        void (*gather)(void *)
        int (*scatter)()
        void *room
    enum: W_STATEMENTS, CAT_ROW, CAT_NULL, CAT_ERROR, CAT_OK, CAT_MOST
    const void *cat_api
    int cat_probe(sqlite3 *db, const char *sql, int version)
    int cat_transact(cat_batch *batch)
    int cat_hook(void *pages, sqlite3 *db, const char *name, int count)
    void cat_wal_hook(sqlite3 *db, int (*hook)(void *, sqlite3 *, const char *, int), void *pages)
    void cat_end(cat_set *set)
    int cat_ask(cat_set *set, int which, cat_blob one, cat_blob other, sqlite3_stmt **made)
    int cat_ask_number(cat_set *set, int which, int64_t number, sqlite3_stmt **made)
    int cat_first(cat_set *set, sqlite3_stmt *statement, int bound)
    const void *cat_column_blob(sqlite3_stmt *statement, int at)
    int cat_column_bytes(sqlite3_stmt *statement, int at)
    int64_t cat_column_int64(sqlite3_stmt *statement, int at)
    int cat_column_type(sqlite3_stmt *statement, int at)
    int cat_reset(sqlite3_stmt *statement)
    int cat_clear_bindings(sqlite3_stmt *statement)
