/* MD5 of many messages at once, one in each lane of AVX2 vectors: two vectors of eight, taken in turn, so that one works while the
 * other waits for its chain of additions. One message in a lane is slower than alone; sixteen take about the time of two.
 *
 *     md5_many(states, data, lengths, count) is md5_update(states[i], data[i], lengths[i]) for every i; any lengths, count <= 16
 */
#ifndef ABIXIO_MD5_LANES_H
#define ABIXIO_MD5_LANES_H

#include "_md5.h"

#define MD5_LANES 16

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define MD5_HAVE_LANES 1
#define MD5_AVX2 __attribute__((target("avx2")))

typedef uint32_t md5_vector __attribute__((vector_size(32)));

/* Eight words of eight messages: in row i of `words`, word i of each. */
MD5_AVX2 static inline void md5_transpose(const uint8_t *const data[8], size_t offset, md5_vector words[8]) {
    __m256i row[8], pair[8], quad[8];
    for (int i = 0; i < 8; i++) row[i] = _mm256_loadu_si256((const __m256i *)(data[i] + offset));
    for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int half = 0; half < 2; half++) {
            quad[i + 2 * half] = _mm256_unpacklo_epi64(pair[i + half], pair[i + 2 + half]);
            quad[i + 2 * half + 1] = _mm256_unpackhi_epi64(pair[i + half], pair[i + 2 + half]);
        }
    }
    for (int i = 0; i < 4; i++) {
        words[i] = (md5_vector)_mm256_permute2x128_si256(quad[i], quad[i + 4], 0x20);
        words[i + 4] = (md5_vector)_mm256_permute2x128_si256(quad[i], quad[i + 4], 0x31);
    }
}

#define MD5_LANES_STEP(f, a, b, c, d, i, s, t)                          \
    for (int v = 0; v < 2; v++) {                                       \
        a[v] += words[v][i] + (uint32_t)(t);                            \
        a[v] += f(b[v], c[v], d[v]);                                    \
        a[v] = (a[v] << (s) | a[v] >> (32 - (s))) + b[v];               \
    }

#define MD5_LANES_FOUR(f, i, step, s1, s2, s3, s4, t1, t2, t3, t4)      \
    MD5_LANES_STEP(f, a, b, c, d, (i) % 16, s1, t1)                     \
    MD5_LANES_STEP(f, d, a, b, c, ((i) + (step)) % 16, s2, t2)          \
    MD5_LANES_STEP(f, c, d, a, b, ((i) + 2 * (step)) % 16, s3, t3)      \
    MD5_LANES_STEP(f, b, c, d, a, ((i) + 3 * (step)) % 16, s4, t4)

/* `count` blocks of each of sixteen messages. */
MD5_AVX2 static void md5_blocks_of_16(uint32_t *const sums[16], const uint8_t *const data[16], size_t count) {
    md5_vector a[2], b[2], c[2], d[2], words[2][16];
    for (int lane = 0; lane < 16; lane++) {
        a[lane / 8][lane % 8] = sums[lane][0], b[lane / 8][lane % 8] = sums[lane][1];
        c[lane / 8][lane % 8] = sums[lane][2], d[lane / 8][lane % 8] = sums[lane][3];
    }
    for (size_t block = 0; block < count; block++) {
        md5_vector a0[2] = {a[0], a[1]}, b0[2] = {b[0], b[1]}, c0[2] = {c[0], c[1]}, d0[2] = {d[0], d[1]};
        for (int v = 0; v < 2; v++) {
            md5_transpose(data + 8 * v, 64 * block, words[v]);
            md5_transpose(data + 8 * v, 64 * block + 32, words[v] + 8);
        }
        MD5_ALL_ROUNDS(MD5_LANES_FOUR)
        for (int v = 0; v < 2; v++) a[v] += a0[v], b[v] += b0[v], c[v] += c0[v], d[v] += d0[v];
    }
    for (int lane = 0; lane < 16; lane++) {
        sums[lane][0] = a[lane / 8][lane % 8], sums[lane][1] = b[lane / 8][lane % 8];
        sums[lane][2] = c[lane / 8][lane % 8], sums[lane][3] = d[lane / 8][lane % 8];
    }
}

static int md5_have_lanes(void) {
    return __builtin_cpu_supports("avx2");
}
#else
#define MD5_HAVE_LANES 0
static int md5_have_lanes(void) {
    return 0;
}
#endif

/* The blocks that all of `count` messages still have, sixteen at a time; returns how many that were. */
static size_t md5_common(md5_state *const states[], const uint8_t *const data[], const size_t lengths[], int count) {
    size_t least = lengths[0] / 64;
    for (int i = 1; i < count; i++) if (lengths[i] / 64 < least) least = lengths[i] / 64;
#if MD5_HAVE_LANES
    uint32_t unused[4], *sums[MD5_LANES];
    const uint8_t *from[MD5_LANES];
    memset(unused, 0, sizeof unused);
    for (int lane = 0; lane < MD5_LANES; lane++) {
        sums[lane] = lane < count ? states[lane]->sum : unused;
        from[lane] = data[lane < count ? lane : 0];
    }
    md5_blocks_of_16(sums, from, least);
#endif
    for (int i = 0; i < count; i++) states[i]->length += 64 * least;
    return least;
}

static void md5_many(md5_state *states[], const uint8_t *data[], size_t lengths[], int count) {
    for (int i = 0; i < count; i++) {   /* to the next whole block each */
        size_t fill = (64 - states[i]->length % 64) % 64;
        if (fill > lengths[i]) fill = lengths[i];
        md5_update(states[i], data[i], fill);
        data[i] += fill, lengths[i] -= fill;
    }
    while (count > 2 && md5_have_lanes()) {   /* two are faster one after the other */
        int left = 0;
        size_t done = 64 * md5_common(states, data, lengths, count);
        for (int i = 0; i < count; i++) {
            data[i] += done, lengths[i] -= done;
            if (lengths[i] < 64) {
                md5_update(states[i], data[i], lengths[i]);
            } else {
                states[left] = states[i], data[left] = data[i], lengths[left++] = lengths[i];
            }
        }
        count = left;
    }
    for (int i = 0; i < count; i++) md5_update(states[i], data[i], lengths[i]);
}

#endif
