/* Percent coding as signatures want it, and the order of query parameters.
 *
 * All functions read and write within the sizes given, and nothing else. `out` overlaps no input. Bytes are bytes: that they are
 * UTF-8 is checked by whoever makes text of them.
 */
#ifndef ABIXIO_SIGN_H
#define ABIXIO_SIGN_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* RFC 3986: what stands for itself. */
static int sign_unreserved(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.' || c == '~';
}

static int sign_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that begins at in[*at], which is below size, as it is meant; *at moves behind it. A broken escape is a percent sign, and
 * *broken is set. With plus, a plus sign is a blank. */
static uint8_t sign_next(const uint8_t *in, size_t size, size_t *at, int plus, int *broken)
{
    uint8_t c = in[(*at)++];
    if (c == '+' && plus)
        return ' ';
    if (c == '%') {
        if (size - *at >= 2 && sign_digit(in[*at]) >= 0 && sign_digit(in[*at + 1]) >= 0) {
            c = (uint8_t)(sign_digit(in[*at]) << 4 | sign_digit(in[*at + 1]));
            *at += 2;
        } else {
            *broken = 1;
        }
    }
    return c;
}

/* Whether decoding would change nothing, and the bytes are ASCII. */
static int sign_plain(const uint8_t *in, size_t size, int plus)
{
    for (size_t at = 0; at < size; at++)
        if (in[at] >= 0x80 || in[at] == '%' || (plus && in[at] == '+'))
            return 0;
    return 1;
}

/* Decodes into out, which has room for size bytes. Bytes written; SIZE_MAX for a broken escape. */
static size_t sign_decode(const uint8_t *in, size_t size, uint8_t *out, int plus)
{
    size_t at = 0, written = 0;
    int broken = 0;
    while (at < size)
        out[written++] = sign_next(in, size, &at, plus, &broken);
    return broken ? SIZE_MAX : written;
}

/* Decodes and encodes anew into out, which has room for 3 * size bytes: one spelling for all that mean the same. With slash, a slash
 * stands for itself. Bytes written. */
static size_t sign_recode(const uint8_t *in, size_t size, uint8_t *out, int plus, int slash)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t at = 0, written = 0;
    int broken = 0;
    while (at < size) {
        uint8_t c = sign_next(in, size, &at, plus, &broken);
        if (sign_unreserved(c) || (c == '/' && slash)) {
            out[written++] = c;
        } else {
            out[written++] = '%';
            out[written++] = (uint8_t)hex[c >> 4];
            out[written++] = (uint8_t)hex[c & 15];
        }
    }
    return written;
}

typedef struct {
    const uint8_t *name, *value;
    size_t name_size, value_size;
} sign_pair;

static int sign_compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int sign_order(const void *left, const void *right)
{
    const sign_pair *a = left, *b = right;
    int order = sign_compare(a->name, a->name_size, b->name, b->name_size);
    return order ? order : sign_compare(a->value, a->value_size, b->value, b->value_size);
}

/* The parameters of a query, recoded into room (3 * size bytes) and sorted, into pairs, which has a place for each ampersand and one
 * more; without those of the name skip. How many there are. */
static size_t sign_query(const uint8_t *query, size_t size, const uint8_t *skip, size_t skip_size, uint8_t *room, sign_pair *pairs)
{
    size_t count = 0;
    for (size_t at = 0; at < size;) {
        const uint8_t *part = query + at, *end = memchr(part, '&', size - at), *equals;
        size_t length = end ? (size_t)(end - part) : size - at, name = length;
        at += length + 1;
        if (!length)
            continue;
        equals = memchr(part, '=', length);
        if (equals)
            name = (size_t)(equals - part);
        sign_pair *pair = pairs + count;
        pair->name = room;
        pair->name_size = sign_recode(part, name, room, 1, 0);
        room += pair->name_size;
        pair->value = room;
        pair->value_size = equals ? sign_recode(equals + 1, length - name - 1, room, 1, 0) : 0;
        room += pair->value_size;
        if (!(pair->name_size == skip_size && !memcmp(pair->name, skip, skip_size)))
            count++;
    }
    qsort(pairs, count, sizeof *pairs, sign_order);
    return count;
}

/* Bytes of the pairs as one query. */
static size_t sign_length(const sign_pair *pairs, size_t count)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += pairs[i].name_size + pairs[i].value_size + 2;
    return total ? total - 1 : 0;
}

/* That query, into out, which has room for it. */
static void sign_join(const sign_pair *pairs, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i)
            *out++ = '&';
        memcpy(out, pairs[i].name, pairs[i].name_size);
        out += pairs[i].name_size;
        *out++ = '=';
        memcpy(out, pairs[i].value, pairs[i].value_size);
        out += pairs[i].value_size;
    }
}

/* Whether they are 64 hex digits. */
static int sign_is_sha256(const uint8_t *in, size_t size)
{
    if (size != 64)
        return 0;
    for (size_t at = 0; at < size; at++)
        if (sign_digit(in[at]) < 0)
            return 0;
    return 1;
}

#endif
