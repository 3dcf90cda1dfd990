/* One transaction of a catalog: all operations of all changes, without the interpreter.
 *
 * What each operation means is said in volume/interface.py, what the statements are in volume/catalog_write.py. A change that is
 * refused leaves no trace, and the others go on. An error ends the transaction, of which nothing is left then, except where
 * it was COMMIT that failed: then nobody knows.
 */
#ifndef ABIXIO_CATALOG_WRITE_H
#define ABIXIO_CATALOG_WRITE_H

#include "_catalog.h"

/* In the order of WRITES in _catalog.pyx. */
enum {
    W_BEGIN, W_COMMIT, W_ROLLBACK, W_SAVEPOINT, W_UNDO, W_RELEASE, W_NEWEST, W_NEWEST_REV, W_ROW, W_INSERT, W_UPDATE, W_MARK, W_DROP,
    W_UNSETTLE, W_SETTLE, W_HEAD, W_BEHEAD, W_REF, W_UNREF, W_REFS, W_OWN, W_MOVE_REFS, W_MOVE_ROWS, W_ADD_INLINE, W_SET_INLINE,
    W_DROP_INLINE, W_DISCARD, W_KEEP, W_NOTE, W_RAISE_NOTE, W_COUNT, W_LAST_INLINE, W_STATEMENTS
};

typedef enum { OP_INSERT, OP_MARK, OP_DROP, OP_SETTLE, OP_HEAD, OP_BEHEAD, OP_NOTE } cat_kind;

typedef struct {
    cat_blob space, key;
    int64_t seq, rev;
} cat_id;

typedef struct {
    cat_kind kind;
    int guard, addressed, brings; /* whether an Insert is guarded, `to` is given, `bytes` are given */
    int idle;                     /* nothing is left to do for it */
    cat_id id;                    /* of a Note: the name is the key, the value is the seq */
    int64_t state, to;
    cat_blob record, bytes;
    Py_ssize_t shards, count; /* its write ids: where they begin among those of the batch, and how many */
} cat_op;

typedef enum { DONE, NO_ROOM, NEWER, OTHER } cat_answer;

typedef struct {
    Py_ssize_t ops, count; /* where its operations begin among those of the batch, and how many */
    int stores;            /* brings new data */
    cat_answer answer;
    Py_ssize_t refused;    /* NEWER, OTHER: the operation that is */
    int64_t seq, rev;      /* NEWER: of the newest row */
} cat_change;

typedef struct {
    cat_set *set;
    cat_op *ops;
    cat_blob *shards;
    cat_change *changes;
    Py_ssize_t count;   /* of changes */
    int full;           /* those that store are refused */
    int64_t seq;        /* the greatest that was inserted */
    int64_t inlined;    /* the last id that was given, -1 before the first */
    void (*gather)(void *); /* around COMMIT: what it writes goes together (_sqlio.h) */
    int (*scatter)(void);
    void *room;
} cat_batch;

/* CAT_OK; CAT_ERROR; CAT_ROW of what looks for something; REFUSED. */
enum { REFUSED = -1 };

static int cat_bind_id(sqlite3_stmt *s, int at, const cat_id *id) {
    return cat_bind_blob(s, at, id->space) || cat_bind_blob(s, at + 1, id->key) || cat_bind_int64(s, at + 2, id->seq)
        || cat_bind_int64(s, at + 3, id->rev);
}

static int cat_bind_inline(sqlite3_stmt *s, int at, int64_t where) {
    return where < 0 ? cat_bind_null(s, at) : cat_bind_int64(s, at, where);
}

/* Ids of inline shards are greater than 0; here -1 says that there is none. */
static int64_t cat_column_inline(sqlite3_stmt *s, int at) {
    return cat_column_type(s, at) == CAT_NULL ? -1 : cat_column_int64(s, at);
}

static int cat_plain(cat_set *set, int which) {
    sqlite3_stmt *s = cat_use(set, which);
    return s ? cat_finish(set, s, CAT_OK) : CAT_ERROR;
}

static int cat_by_id(cat_set *set, int which, const cat_id *id) {
    sqlite3_stmt *s = cat_use(set, which);
    return s ? cat_finish(set, s, cat_bind_id(s, 1, id)) : CAT_ERROR;
}

static int cat_by_blob(cat_set *set, int which, cat_blob blob) {
    sqlite3_stmt *s = cat_use(set, which);
    return s ? cat_finish(set, s, cat_bind_blob(s, 1, blob)) : CAT_ERROR;
}

static int cat_by_number(cat_set *set, int which, int64_t number) {
    sqlite3_stmt *s = cat_use(set, which);
    return s ? cat_finish(set, s, cat_bind_int64(s, 1, number)) : CAT_ERROR;
}

static int cat_number_blob(cat_set *set, int which, int64_t number, cat_blob blob) {
    sqlite3_stmt *s = cat_use(set, which);
    return s ? cat_finish(set, s, cat_bind_int64(s, 1, number) || cat_bind_blob(s, 2, blob)) : CAT_ERROR;
}

static int cat_note(cat_set *set, int which, cat_blob name, int64_t value) {
    sqlite3_stmt *s = cat_use(set, which);
    return s ? cat_finish(set, s, cat_bind_text64(s, 1, name.data, name.length) || cat_bind_int64(s, 2, value)) : CAT_ERROR;
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

/* Ids are never used twice: a reader that looked a row up may ask for the bytes after the row is gone, and must not get another
 * object's. `where`: where the shard is inline, if it is; where it is afterwards. */
static int cat_store(cat_batch *b, const cat_op *op, cat_blob write_id, int known, int64_t *where) {
    cat_set *set = b->set;
    if (*where >= 0)
        return cat_number_blob(set, W_SET_INLINE, *where, op->bytes);
    if (b->inlined < 0) {
        sqlite3_stmt *s = cat_use(set, W_LAST_INLINE);
        int found = s ? cat_first(set, s, CAT_OK) : CAT_ERROR;
        if (found != CAT_ROW)
            return found == CAT_OK ? cat_say(set, CAT_CORRUPT, "the last id of an inline shard is not noted") : found;
        b->inlined = cat_column_int64(s, 0);
        cat_reset(s);
    }
    *where = ++b->inlined;
    if (cat_number_blob(set, W_ADD_INLINE, *where, op->bytes))
        return CAT_ERROR;
    return known && (cat_number_blob(set, W_MOVE_REFS, *where, write_id) || cat_number_blob(set, W_MOVE_ROWS, *where, write_id));
}

/* Whether a row names that shard: CAT_ROW, and where it is inline. */
static int cat_refs(cat_set *set, cat_blob write_id, int64_t *where) {
    sqlite3_stmt *s = cat_use(set, W_REFS);
    int found = s ? cat_first(set, s, cat_bind_blob(s, 1, write_id)) : CAT_ERROR;
    *where = -1;
    if (found == CAT_ROW) {
        *where = cat_column_inline(s, 0);
        cat_reset(s);
    }
    return found;
}

/* Note that the row names its shards, store the bytes of the first if they came along. `first`: where that one is inline. */
static int cat_keep(cat_batch *b, const cat_op *op, int64_t *first) {
    *first = -1;
    for (Py_ssize_t i = 0; i < op->count; i++) {
        cat_blob write_id = b->shards[op->shards + i];
        int64_t where;
        int found = cat_refs(b->set, write_id, &where);
        if (found == CAT_ERROR)
            return found;
        if (i == 0 && op->brings && cat_store(b, op, write_id, found == CAT_ROW, &where))
            return CAT_ERROR;
        if (i == 0)
            *first = where;
        sqlite3_stmt *s = cat_use(b->set, W_REF);
        if (!s || cat_finish(b->set, s, cat_bind_blob(s, 1, write_id) || cat_bind_id(s, 2, &op->id) || cat_bind_int64(s, 6, i)
                                 || cat_bind_inline(s, 7, where)))
            return CAT_ERROR;
        if (where < 0 && cat_by_blob(b->set, W_KEEP, write_id))
            return CAT_ERROR;
    }
    return CAT_OK;
}

/* ---- rows ----------------------------------------------------------------------------------------------------------- */

/* A row that is here already: an attempt is repeated, a repair finishes it or brings the shard that was missing. `s`: its
 * record and inline. */
static int cat_again(cat_batch *b, const cat_op *op, cat_change *change, sqlite3_stmt *s) {
    uint64_t length = (uint64_t)cat_column_bytes(s, 0);
    int same = length == op->record.length && (!length || !memcmp(cat_column_blob(s, 0), op->record.data, length));
    int64_t where = cat_column_inline(s, 1), kept;
    cat_reset(s);
    if (!same) {
        change->answer = OTHER;
        return REFUSED;
    }
    if (cat_keep(b, op, &kept))
        return CAT_ERROR;
    s = cat_use(b->set, W_UPDATE);
    if (!s || cat_finish(b->set, s, cat_bind_int64(s, 1, op->state) || cat_bind_int64(s, 2, op->to)
                             || cat_bind_inline(s, 3, kept < 0 ? where : kept) || cat_bind_id(s, 4, &op->id)))
        return CAT_ERROR;
    return cat_by_id(b->set, W_UNSETTLE, &op->id);
}

/* Whether the guard refuses: for rev 0 the key's newest row, else the greatest rev of the same seq. */
static int cat_late(cat_batch *b, const cat_op *op, const cat_change *newest) {
    if (op->id.rev == 0)
        return newest->seq > op->id.seq ? REFUSED : CAT_OK;
    sqlite3_stmt *s = cat_use(b->set, W_NEWEST_REV);
    int found = s ? cat_first(b->set, s, cat_bind_blob(s, 1, op->id.space) || cat_bind_blob(s, 2, op->id.key)
                                             || cat_bind_int64(s, 3, op->id.seq))
                  : CAT_ERROR;
    if (found != CAT_ROW)
        return found;
    int late = cat_column_int64(s, 0) > op->id.rev;
    cat_reset(s);
    return late ? REFUSED : CAT_OK;
}

/* What is here of the key already: CAT_ROW, an Insert must look at it; CAT_OK, it comes behind all. */
static int cat_newest(cat_batch *b, const cat_op *op, cat_change *change) {
    sqlite3_stmt *s;
    int found = cat_ask(b->set, W_NEWEST, op->id.space, op->id.key, &s);
    if (found != CAT_ROW)
        return found;
    change->seq = cat_column_int64(s, 0);
    change->rev = cat_column_int64(s, 1);
    cat_reset(s);
    int behind = change->seq > op->id.seq || (change->seq == op->id.seq && change->rev >= op->id.rev);
    return behind ? CAT_ROW : CAT_OK;
}

static int cat_same(const cat_blob *one, const cat_blob *other) {
    return one->length == other->length && !memcmp(one->data, other->data, one->length);
}

/* The next operation of that kind on the same row, before any other Insert; 0 when there is none. */
static cat_op *cat_later(const cat_op *op, cat_op *end, cat_kind kind) {
    for (cat_op *later = (cat_op *)op + 1; later < end && later->kind != OP_INSERT; later++)
        if (later->kind == kind && later->id.seq == op->id.seq && later->id.rev == op->id.rev
            && cat_same(&later->id.space, &op->id.space) && cat_same(&later->id.key, &op->id.key))
            return later;
    return 0;
}

/* Whether the same change takes the row away again: the record of a delete that hides all there was on a sole volume. Nothing
 * between the two could tell, so neither is done. */
static int cat_fleeting(const cat_op *op, cat_op *end) {
    cat_op *drop = op->count ? 0 : cat_later(op, end, OP_DROP);
    if (drop && drop->count == 0)
        drop->idle = 1;
    return drop && drop->idle;
}

/* The journal's entry of a new row, unless the same change takes it away again. */
static int cat_journal(cat_batch *b, const cat_op *op, cat_op *end) {
    cat_op *settle = cat_later(op, end, OP_SETTLE);
    if (settle)
        settle->idle = 1;
    return settle ? CAT_OK : cat_by_id(b->set, W_UNSETTLE, &op->id);
}

static int cat_insert(cat_batch *b, const cat_op *op, cat_op *end, cat_change *change) {
    cat_set *set = b->set;
    int64_t where;
    int found = cat_newest(b, op, change);
    if (found == CAT_ROW) {
        sqlite3_stmt *s = cat_use(set, W_ROW);
        found = s ? cat_first(set, s, cat_bind_id(s, 1, &op->id)) : CAT_ERROR;
        if (found == CAT_ROW)
            return cat_again(b, op, change, s);
        if (found == CAT_OK && op->guard)
            found = cat_late(b, op, change);
        if (found == REFUSED)
            change->answer = NEWER;
    }
    if (found != CAT_OK)
        return found;
    if (op->id.seq + op->id.rev > b->seq)
        b->seq = op->id.seq + op->id.rev; /* the moment when a rev was made: the clock must not give that one out again */
    if (cat_fleeting(op, end))
        return CAT_OK;
    if (cat_keep(b, op, &where))
        return CAT_ERROR;
    sqlite3_stmt *s = cat_use(set, W_INSERT);
    if (!s || cat_finish(set, s, cat_bind_id(s, 1, &op->id) || cat_bind_int64(s, 5, op->state) || cat_bind_int64(s, 6, op->to)
                             || cat_bind_blob(s, 7, op->record) || cat_bind_inline(s, 8, where)))
        return CAT_ERROR;
    return cat_journal(b, op, end);
}

/* The bytes of a shard go with the last row that names it: inline ones at once, files through the garbage list. */
static int cat_release(cat_batch *b, const cat_id *id, cat_blob write_id) {
    cat_set *set = b->set;
    sqlite3_stmt *s = cat_use(set, W_OWN);
    int64_t where = -1, other;
    int found = s ? cat_first(set, s, cat_bind_blob(s, 1, write_id) || cat_bind_id(s, 2, id)) : CAT_ERROR;
    if (found == CAT_ROW) {
        where = cat_column_inline(s, 0);
        cat_reset(s);
        s = cat_use(set, W_UNREF);
        found = s ? cat_finish(set, s, cat_bind_blob(s, 1, write_id) || cat_bind_id(s, 2, id)) : CAT_ERROR;
    }
    if (found == CAT_OK)
        found = cat_refs(set, write_id, &other);
    if (found != CAT_OK)
        return found == CAT_ROW ? CAT_OK : found;
    return where < 0 ? cat_by_blob(set, W_DISCARD, write_id) : cat_by_number(set, W_DROP_INLINE, where);
}

static int cat_drop(cat_batch *b, const cat_op *op) {
    if (cat_by_id(b->set, W_DROP, &op->id) || cat_by_id(b->set, W_SETTLE, &op->id))
        return CAT_ERROR;
    for (Py_ssize_t i = 0; i < op->count; i++)
        if (cat_release(b, &op->id, b->shards[op->shards + i]))
            return CAT_ERROR;
    return CAT_OK;
}

static int cat_mark(cat_set *set, const cat_op *op) {
    sqlite3_stmt *s = cat_use(set, W_MARK);
    if (!s)
        return CAT_ERROR;
    int bound = cat_bind_int64(s, 1, op->state) || (op->addressed ? cat_bind_int64(s, 2, op->to) : cat_bind_null(s, 2));
    return cat_finish(set, s, bound || cat_bind_id(s, 3, &op->id));
}

static int cat_behead(cat_set *set, const cat_op *op) {
    sqlite3_stmt *s = cat_use(set, W_BEHEAD);
    return s ? cat_finish(set, s, cat_bind_blob(s, 1, op->id.space) || cat_bind_blob(s, 2, op->id.key)) : CAT_ERROR;
}

/* ---- the whole ------------------------------------------------------------------------------------------------------ */

static int cat_op_run(cat_batch *b, const cat_op *op, cat_op *end, cat_change *change) {
    if (op->idle)
        return CAT_OK;
    switch (op->kind) {
    case OP_INSERT:
        return cat_insert(b, op, end, change);
    case OP_MARK:
        return cat_mark(b->set, op);
    case OP_DROP:
        return cat_drop(b, op);
    case OP_SETTLE:
        return cat_by_id(b->set, W_SETTLE, &op->id);
    case OP_HEAD:
        return cat_by_id(b->set, W_HEAD, &op->id);
    case OP_BEHEAD:
        return cat_behead(b->set, op);
    case OP_NOTE:
        return cat_note(b->set, W_NOTE, op->id.key, op->id.seq);
    }
    return CAT_ERROR;
}

/* Only an Insert refuses; where it stands first, there is nothing to undo and no savepoint to pay for. */
static int cat_change_run(cat_batch *b, cat_change *change) {
    cat_op *first = b->ops + change->ops, *end = first + change->count;
    int64_t seq = b->seq;
    int result = CAT_OK, saved = 0;
    for (cat_op *op = first + 1; op < end; op++)
        saved |= op->kind == OP_INSERT;
    if (saved && cat_plain(b->set, W_SAVEPOINT))
        return CAT_ERROR;
    for (cat_op *op = first; op < end && result == CAT_OK; op++) {
        result = cat_op_run(b, op, end, change);
        change->refused = op - b->ops;
    }
    if (result == CAT_ERROR)
        return result;
    if (result == REFUSED)
        b->seq = seq;
    if (saved && ((result == REFUSED && cat_plain(b->set, W_UNDO)) || cat_plain(b->set, W_RELEASE)))
        return CAT_ERROR;
    return CAT_OK;
}

static int cat_count(cat_batch *b) {
    static const cat_blob seq = {"seq", 3}, inlined = {"inline", 6};
    if (cat_plain(b->set, W_COUNT) || (b->seq && cat_note(b->set, W_RAISE_NOTE, seq, b->seq)))
        return CAT_ERROR;
    return b->inlined < 0 ? CAT_OK : cat_note(b->set, W_RAISE_NOTE, inlined, b->inlined);
}

static int cat_all(cat_batch *b) {
    int done = 0;
    for (cat_change *change = b->changes; change < b->changes + b->count; change++) {
        change->answer = b->full && change->stores ? NO_ROOM : DONE;
        if (change->answer == DONE && cat_change_run(b, change))
            return CAT_ERROR;
        done |= change->answer == DONE;
    }
    return done ? cat_count(b) : CAT_OK;
}

/* The error of a rollback says less than that which made it necessary. */
static void cat_undo(cat_set *set) {
    char message[CAT_MESSAGE];
    int code = set->code;
    memcpy(message, set->message, CAT_MESSAGE);
    if (!cat_get_autocommit(set->db))
        cat_plain(set, W_ROLLBACK);
    set->code = code;
    memcpy(set->message, message, CAT_MESSAGE);
}

static int cat_commit(cat_batch *b) {
    b->gather(b->room);
    int result = cat_plain(b->set, W_COMMIT);
    if (b->scatter() && result == CAT_OK)
        return cat_say(b->set, CAT_UNSYNCED, "a commit was not written whole");
    return result;
}

static int cat_transact(cat_batch *b) {
    b->seq = 0;
    b->inlined = -1;
    int result = cat_plain(b->set, W_BEGIN);
    if (result == CAT_OK && (result = cat_all(b)) == CAT_OK)
        result = cat_commit(b);
    if (result)
        cat_undo(b->set);
    cat_forget(b->set);
    return result;
}

#endif
