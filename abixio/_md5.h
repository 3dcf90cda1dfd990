/* MD5 as RFC 1321 defines it, in pieces: for ETags and Content-MD5, which S3 demands, not for security.
 *
 *     md5_init(&s); md5_update(&s, data, len) any number of times; md5_digest(&s, out)
 *
 * md5_digest leaves the state as it was, so more may follow. A state is plain memory: copying it forks the hash.
 */
#ifndef ABIXIO_MD5_H
#define ABIXIO_MD5_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint32_t sum[4];
    uint64_t length;      /* bytes so far; RFC 1321 counts its bits modulo 2^64 */
    uint8_t rest[64];     /* the first length % 64 bytes of it wait for a whole block */
} md5_state;

#define MD5_LITTLE(x) ((__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) ? (x) : __builtin_bswap32(x))

static inline uint32_t md5_word(const uint8_t *block, int i) {
    uint32_t word;
    memcpy(&word, block + 4 * i, 4);
    return MD5_LITTLE(word);
}

/* The four functions of RFC 1321. MD5 is one long chain of additions: what does not depend on the newest value (x) goes
 * first. So G is the sum of its two disjoint halves instead of their OR, which lets the half without x be added early. */
#define MD5_F(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MD5_G(x, y, z) (((y) & ~(z)) + ((x) & (z)))
#define MD5_H(x, y, z) ((x) ^ ((y) ^ (z)))
#define MD5_I(x, y, z) ((y) ^ ((x) | ~(z)))

#define MD5_STEP(f, a, b, c, d, i, s, t)                    \
    a += md5_word(block, i) + (t);                          \
    a += f(b, c, d);                                        \
    a = (a << (s) | a >> (32 - (s))) + b;

/* Round f: sixteen steps; word i, i + step, i + 2 * step ... modulo 16. */
#define MD5_FOUR(f, i, step, s1, s2, s3, s4, t1, t2, t3, t4)          \
    MD5_STEP(f, a, b, c, d, (i) % 16, s1, t1)                         \
    MD5_STEP(f, d, a, b, c, ((i) + (step)) % 16, s2, t2)              \
    MD5_STEP(f, c, d, a, b, ((i) + 2 * (step)) % 16, s3, t3)          \
    MD5_STEP(f, b, c, d, a, ((i) + 3 * (step)) % 16, s4, t4)

/* All four rounds, in terms of four steps. */
#define MD5_ALL_ROUNDS(four)                                                          \
    four(MD5_F, 0, 1, 7, 12, 17, 22, 0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee)  \
    four(MD5_F, 4, 1, 7, 12, 17, 22, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501)  \
    four(MD5_F, 8, 1, 7, 12, 17, 22, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be)  \
    four(MD5_F, 12, 1, 7, 12, 17, 22, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821) \
    four(MD5_G, 1, 5, 5, 9, 14, 20, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa)   \
    four(MD5_G, 5, 5, 5, 9, 14, 20, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8)   \
    four(MD5_G, 9, 5, 5, 9, 14, 20, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed)   \
    four(MD5_G, 13, 5, 5, 9, 14, 20, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a)  \
    four(MD5_H, 5, 3, 4, 11, 16, 23, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c)  \
    four(MD5_H, 1, 3, 4, 11, 16, 23, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70)  \
    four(MD5_H, 13, 3, 4, 11, 16, 23, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05) \
    four(MD5_H, 9, 3, 4, 11, 16, 23, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665)  \
    four(MD5_I, 0, 7, 6, 10, 15, 21, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039)  \
    four(MD5_I, 12, 7, 6, 10, 15, 21, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1) \
    four(MD5_I, 8, 7, 6, 10, 15, 21, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1)  \
    four(MD5_I, 4, 7, 6, 10, 15, 21, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391)

static void md5_blocks(uint32_t sum[4], const uint8_t *block, size_t count) {
    uint32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];
    for (; count; count--, block += 64) {
        const uint32_t a0 = a, b0 = b, c0 = c, d0 = d;
        MD5_ALL_ROUNDS(MD5_FOUR)
        a += a0, b += b0, c += c0, d += d0;
    }
    sum[0] = a, sum[1] = b, sum[2] = c, sum[3] = d;
}

static void md5_init(md5_state *s) {
    *s = (md5_state){.sum = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}};
}

static void md5_update(md5_state *s, const uint8_t *data, size_t len) {
    size_t held = s->length % 64;
    s->length += len;
    if (held) {
        size_t take = len < 64 - held ? len : 64 - held;
        memcpy(s->rest + held, data, take);
        data += take, len -= take;
        if (held + take < 64) return;
        md5_blocks(s->sum, s->rest, 1);
    }
    md5_blocks(s->sum, data, len / 64);
    if (len % 64) memcpy(s->rest, data + len - len % 64, len % 64);
}

static void md5_digest(const md5_state *state, uint8_t out[16]) {
    static const uint8_t padding[64] = {0x80};
    md5_state s = *state;
    uint8_t bits[8];
    for (int i = 0; i < 8; i++) bits[i] = (uint8_t)(s.length << 3 >> (8 * i));
    md5_update(&s, padding, 1 + (119 - s.length % 64) % 64);
    md5_update(&s, bits, 8);
    for (int i = 0; i < 4; i++) {
        uint32_t word = MD5_LITTLE(s.sum[i]);
        memcpy(out + 4 * i, &word, 4);
    }
}

#endif
