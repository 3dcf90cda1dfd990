/* Compares the GFNI kernels of _gf256.h with the scalar one. `header.h` is that header with the targets lowered to avx2;
 * the instruction is done in C. Prints how many products agree. */
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
        good += agrees(gf256_gfni, rows, cols, offset, length) + agrees(gf256_gfni512, rows, cols, offset, length);
    }
    printf("%d products agree\n", good);
    return good != 2 * ROUNDS;
}
