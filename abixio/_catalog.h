/* SQLite's C interface, that of the very library that apsw has in it.
 *
 * apsw exports no symbols, and a second SQLite in the process would break the locks of the first (fcntl(2) locks belong to a
 * process). But SQLite gives its functions to extensions that it loads, as a table of pointers, `sqlite3_api_routines`. Functions
 * are only ever added at the end of it (sqlite3ext.h), so a position means the same in every version since the one that
 * brought it, the latest here being 3.20. They are written down here, since users have no sqlite3ext.h; a test compares them with
 * it where there is one, and cat_probe calls each before it is relied upon.
 */
#ifndef ABIXIO_CATALOG_H
#define ABIXIO_CATALOG_H

#include <stdint.h>
#include <string.h>

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;
typedef void (*cat_slot)(void);

/* CAT_UNSYNCED: of a sync that failed, after which the file must not be trusted. */
enum { CAT_OK = 0, CAT_ERROR = 1, CAT_CORRUPT = 11, CAT_UNSYNCED = 1034, CAT_ROW = 100, CAT_DONE = 101, CAT_NULL = 5, CAT_UTF8 = 1, CAT_PERSISTENT = 1 };

static const cat_slot *cat_api; /* 0 until loaded */

/* What SQLite calls when it loads this library. */
__attribute__((visibility("default"))) int sqlite3_abixio_init(sqlite3 *db, char **message, const cat_slot *api) {
    (void)db;
    (void)message;
    cat_api = api;
    return CAT_OK;
}

enum {
    CAT_COLUMN_BLOB = 19, CAT_COLUMN_BYTES = 20, CAT_COLUMN_INT64 = 29, CAT_COLUMN_TYPE = 38, CAT_BIND_INT64 = 5, CAT_BIND_NULL = 6,
    CAT_ERRMSG = 53, CAT_FINALIZE = 57, CAT_GET_AUTOCOMMIT = 60, CAT_LIBVERSION_NUMBER = 67, CAT_RESET = 77, CAT_STEP = 94,
    CAT_CLEAR_BINDINGS = 118, CAT_EXTENDED_ERRCODE = 166, CAT_WAL_HOOK = 175, CAT_BIND_BLOB64 = 193, CAT_BIND_TEXT64 = 194,
    CAT_PREPARE_V3 = 217,
};

#define CAT_FN(slot, result, ...) ((result(*)(__VA_ARGS__))cat_api[slot])
#define cat_column_blob(s, i) CAT_FN(CAT_COLUMN_BLOB, const void *, sqlite3_stmt *, int)(s, i)
#define cat_column_bytes(s, i) CAT_FN(CAT_COLUMN_BYTES, int, sqlite3_stmt *, int)(s, i)
#define cat_column_int64(s, i) CAT_FN(CAT_COLUMN_INT64, int64_t, sqlite3_stmt *, int)(s, i)
#define cat_column_type(s, i) CAT_FN(CAT_COLUMN_TYPE, int, sqlite3_stmt *, int)(s, i)
#define cat_bind_int64(s, i, v) CAT_FN(CAT_BIND_INT64, int, sqlite3_stmt *, int, int64_t)(s, i, v)
#define cat_bind_null(s, i) CAT_FN(CAT_BIND_NULL, int, sqlite3_stmt *, int)(s, i)
#define cat_errmsg(db) CAT_FN(CAT_ERRMSG, const char *, sqlite3 *)(db)
#define cat_finalize(s) CAT_FN(CAT_FINALIZE, int, sqlite3_stmt *)(s)
#define cat_get_autocommit(db) CAT_FN(CAT_GET_AUTOCOMMIT, int, sqlite3 *)(db)
#define cat_libversion_number() CAT_FN(CAT_LIBVERSION_NUMBER, int, void)()
#define cat_reset(s) CAT_FN(CAT_RESET, int, sqlite3_stmt *)(s)
#define cat_step(s) CAT_FN(CAT_STEP, int, sqlite3_stmt *)(s)
#define cat_clear_bindings(s) CAT_FN(CAT_CLEAR_BINDINGS, int, sqlite3_stmt *)(s)
#define cat_extended_errcode(db) CAT_FN(CAT_EXTENDED_ERRCODE, int, sqlite3 *)(db)
#define cat_wal_hook(db, hook, arg) \
    CAT_FN(CAT_WAL_HOOK, void *, sqlite3 *, int (*)(void *, sqlite3 *, const char *, int), void *)(db, hook, arg)
#define cat_bind_blob64(s, i, d, n) \
    CAT_FN(CAT_BIND_BLOB64, int, sqlite3_stmt *, int, const void *, uint64_t, void (*)(void *))(s, i, d, n, 0)
#define cat_bind_text64(s, i, d, n) \
    CAT_FN(CAT_BIND_TEXT64, int, sqlite3_stmt *, int, const char *, uint64_t, void (*)(void *), unsigned char)(s, i, d, n, 0, CAT_UTF8)
#define cat_prepare_v3(db, sql, n, flags, s) \
    CAT_FN(CAT_PREPARE_V3, int, sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **)(db, sql, n, flags, s, 0)

/* ---- statements ----------------------------------------------------------------------------------------------------- */

#define CAT_MOST 40      /* statements of one connection */
#define CAT_MESSAGE 400  /* bytes of an error's text, with its end */

typedef struct {
    const void *data; /* stays as it is while a statement is bound to it: nothing is copied */
    uint64_t length;
} cat_blob;

/* The statements of one connection, each made when it is first needed. None is under way between two calls. */
typedef struct {
    sqlite3 *db;
    const char *sql[CAT_MOST];
    sqlite3_stmt *made[CAT_MOST];
    int pages;                 /* of the WAL, after the last commit of this connection */
    int code;                  /* of the error that ended the last call, extended */
    char message[CAT_MESSAGE];
} cat_set;

/* Keep what SQLite says of an error, which the next call of it overwrites. */
static int cat_fail(cat_set *set, int code) {
    int extended = cat_extended_errcode(set->db);
    set->code = (extended & 255) == (code & 255) ? extended : code;
    strncpy(set->message, cat_errmsg(set->db), CAT_MESSAGE - 1);
    set->message[CAT_MESSAGE - 1] = 0;
    return CAT_ERROR;
}

/* An error that SQLite does not know of. */
static int cat_say(cat_set *set, int code, const char *message) {
    set->code = code;
    strncpy(set->message, message, CAT_MESSAGE - 1);
    return CAT_ERROR;
}

/* The statement, ready to be bound; 0 after an error. */
static sqlite3_stmt *cat_use(cat_set *set, int which) {
    if (!set->made[which]) {
        int code = cat_prepare_v3(set->db, set->sql[which], -1, CAT_PERSISTENT, &set->made[which]);
        if (code != CAT_OK) {
            cat_fail(set, code);
            return 0;
        }
    }
    return set->made[which];
}

/* Run what is bound to its end, and let go of what is bound. `bound`: whether binding went wrong. */
static int cat_finish(cat_set *set, sqlite3_stmt *statement, int bound) {
    int code = bound;
    if (code == CAT_OK)
        do
            code = cat_step(statement);
        while (code == CAT_ROW);
    int result = code == CAT_DONE ? CAT_OK : cat_fail(set, code);
    cat_reset(statement);
    return result;
}

/* The first row of what is bound: CAT_ROW, and the columns are there until cat_reset; CAT_OK when there is none. */
static int cat_first(cat_set *set, sqlite3_stmt *statement, int bound) {
    int code = bound == CAT_OK ? cat_step(statement) : bound;
    if (code == CAT_ROW)
        return code;
    int result = code == CAT_DONE ? CAT_OK : cat_fail(set, code);
    cat_reset(statement);
    return result;
}

/* A pointer of 0 would be bound as NULL; what is empty may have one. */
static int cat_bind_blob(sqlite3_stmt *statement, int at, cat_blob blob) {
    return cat_bind_blob64(statement, at, blob.length ? blob.data : "", blob.length);
}

/* What a statement of two blobs or of a number finds first, as cat_first. `made`: the statement, to be reset; 0 without one. */
static int cat_ask(cat_set *set, int which, cat_blob one, cat_blob other, sqlite3_stmt **made) {
    sqlite3_stmt *s = *made = cat_use(set, which);
    return s ? cat_first(set, s, cat_bind_blob(s, 1, one) || cat_bind_blob(s, 2, other)) : CAT_ERROR;
}

static int cat_ask_number(cat_set *set, int which, int64_t number, sqlite3_stmt **made) {
    sqlite3_stmt *s = *made = cat_use(set, which);
    return s ? cat_first(set, s, cat_bind_int64(s, 1, number)) : CAT_ERROR;
}

static int cat_hook(void *pages, sqlite3 *db, const char *name, int count) {
    (void)db;
    (void)name;
    *(int *)pages = count;
    return CAT_OK;
}

/* No statement keeps an address of the caller. */
static void cat_forget(cat_set *set) {
    for (int i = 0; i < CAT_MOST; i++)
        if (set->made[i])
            cat_clear_bindings(set->made[i]);
}

static void cat_end(cat_set *set) {
    for (int i = 0; i < CAT_MOST; i++)
        if (set->made[i]) {
            cat_finalize(set->made[i]);
            set->made[i] = 0;
        }
}

/* Call all that is used, so that a position that is wrong shows before it does harm: 0, or the number of the step that failed.
 * `sql` gives its four parameters back as four columns. */
static int cat_probe(sqlite3 *db, const char *sql, int version) {
    static const unsigned char bytes[] = {0, 1, 0};
    sqlite3_stmt *statement = 0;
    int wrong = 0;
    if (!cat_api || cat_libversion_number() != version)
        return 1;
    if (cat_prepare_v3(db, sql, -1, CAT_PERSISTENT, &statement) != CAT_OK || !statement)
        return 2;
    if (cat_bind_blob64(statement, 1, bytes, sizeof bytes) || cat_bind_int64(statement, 2, INT64_MIN)
        || cat_bind_text64(statement, 3, "ab", 2) || cat_bind_int64(statement, 4, 1) || cat_bind_null(statement, 4))
        wrong = 3;
    else if (cat_step(statement) != CAT_ROW || cat_column_bytes(statement, 0) != 3 || memcmp(cat_column_blob(statement, 0), bytes, 3)
             || cat_column_int64(statement, 1) != INT64_MIN || cat_column_bytes(statement, 2) != 2
             || cat_column_type(statement, 2) != 3 || cat_column_type(statement, 3) != CAT_NULL)
        wrong = 4;
    else if (cat_reset(statement) != CAT_OK || cat_clear_bindings(statement) != CAT_OK || cat_step(statement) != CAT_ROW
             || cat_column_type(statement, 0) != CAT_NULL)
        wrong = 5;
    if (cat_finalize(statement) != CAT_OK || (!wrong && cat_extended_errcode(db) != CAT_OK))
        wrong = 6;
    if (!wrong && (cat_prepare_v3(db, "!", -1, 0, &statement) != CAT_ERROR || cat_extended_errcode(db) != CAT_ERROR
                   || !strstr(cat_errmsg(db), "!") || cat_get_autocommit(db) != 1))
        wrong = 7;
    cat_wal_hook(db, cat_hook, &wrong);
    if (cat_wal_hook(db, 0, 0) != &wrong)
        wrong = 8;
    return wrong;
}

#endif
