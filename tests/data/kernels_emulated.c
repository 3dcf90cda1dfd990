/* Compares the GFNI and AVX-512 kernels of _gf256.h with the scalar one. `header.h` is that header with the targets lowered to
 * avx2; the instructions beyond that are done in C. Prints how many products agree. */
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bit i of each byte of the result: the parity of byte 7 - i of the matrix AND the byte of x. One matrix per 8 bytes. */
static void affine(uint8_t *out, const uint8_t *x, const uint8_t *matrix, int size) {
    for (int n = 0; n < size; n++) {
        out[n] = 0;
        for (int i = 0; i < 8; i++) out[n] |= (uint8_t)(__builtin_parity(matrix[n / 8 * 8 + 7 - i] & x[n]) << i);
    }
}

#define EMULATED(x, matrix, constant) ({                                                           \
    __typeof__(matrix) from = (x), by = (matrix), to;                                              \
    affine((uint8_t *)&to, (const uint8_t *)&from, (const uint8_t *)&by, sizeof to);               \
    to; })
#define _mm256_gf2p8affine_epi64_epi8 EMULATED
#define _mm512_gf2p8affine_epi64_epi8 EMULATED

/* Registers of 512 bits as pairs of 256: what such an instruction does to each 128 or 64 bits is what that of AVX2 does. */
typedef union { __m512i whole; __m256i half[2]; } pair;
#define HALVES(expression) ({ pair to; for (int h = 0; h < 2; h++) to.half[h] = (expression); to.whole; })
#define HALF(x) (((pair){.whole = (x)}).half[h])
#define _mm512_set1_epi8(byte) HALVES(_mm256_set1_epi8(byte))
#define _mm512_and_si512(x, y) HALVES(_mm256_and_si256(HALF(x), HALF(y)))
#define _mm512_srli_epi64(x, bits) HALVES(_mm256_srli_epi64(HALF(x), bits))
#define _mm512_broadcast_i32x4(x) HALVES(_mm256_broadcastsi128_si256(x))
#define _mm512_shuffle_epi8(table, x) HALVES(_mm256_shuffle_epi8(HALF(table), HALF(x)))
#include "header.h"

enum { SIDE = 10, LENGTH = 700, ROUNDS = 1000 };
static uint8_t sources[SIDE][LENGTH], expected[SIDE][LENGTH], found[SIDE][LENGTH], matrix[SIDE * SIDE];

static int agrees(gf256_kernel *kernel, int rows, int cols, int offset, size_t length) {
    const uint8_t *src[SIDE];
    uint8_t *want[SIDE], *got[SIDE];
    for (int i = 0; i < SIDE; i++) src[i] = sources[i] + offset, want[i] = expected[i] + offset, got[i] = found[i] + offset;
    memset(expected, 0xA5, sizeof expected);
    memset(found, 0xA5, sizeof found);
    gf256_scalar(matrix, rows, cols, src, want, length);
    kernel(matrix, rows, cols, src, got, length);
    return !memcmp(expected, found, sizeof found);
}

int main(void) {
    int good = 0;
    gf256_init();
    srand(7);
    for (int i = 0; i < SIDE * LENGTH; i++) sources[0][i] = (uint8_t)(rand() >> 7);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SIDE * SIDE; i++) matrix[i] = (uint8_t)(rand() >> 7);
        int rows = 1 + rand() % SIDE, cols = 1 + rand() % SIDE, offset = rand() % 60;
        size_t length = (size_t)(rand() % (LENGTH - offset));
        gf256_kernel *kernels[] = {gf256_gfni, gf256_gfni512, gf256_avx512};
        for (int i = 0; i < 3; i++) good += agrees(kernels[i], rows, cols, offset, length);
    }
    printf("%d products agree\n", good);
    return good != 3 * ROUNDS;
}
