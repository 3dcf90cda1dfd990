/* Products of a matrix and buffers over GF(2^8): the arithmetic of Reed-Solomon erasure codes.
 *
 * The field is GF(2)[x] modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11D), in which 2 generates all 255 non-zero elements.
 * Addition is xor.
 *
 *     gf256_<kernel>(matrix, rows, cols, src, dst, len):
 *         dst[r][i] = sum over c of matrix[r * cols + c] * src[c][i]      for every r < rows, i < len
 *
 * - rows, cols: 0..255. matrix: rows * cols bytes, row after row. len: any number of bytes, also 0.
 * - No alignment is asked for. Sources may overlap each other. An output may overlap neither a source nor an output.
 * - dst is written, never read before: its old content does not matter.
 * - Every kernel gives the same bytes. `scalar` is the reference and does the tails of the others.
 * - gf256_init() must have returned before any other call; it is idempotent, not thread-safe.
 *
 * The vector kernels go through the buffers once: for each strip of two registers they load every source once and keep
 * up to GROUP rows of sums in registers. More rows are done in groups, tile by tile, so that the sources of the second
 * group come from the cache.
 */
#ifndef ABIXIO_GF256_H
#define ABIXIO_GF256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GF256_POLYNOMIAL 0x11D
#define GF256_GROUP 4      /* rows at once: 4 rows * 2 sums + 8 temporaries = the 16 registers of AVX2 */
#define GF256_TILE 16384   /* bytes of each source per group: 6 sources and 4 outputs stay in half a MiB of L2 */

typedef void gf256_kernel(const uint8_t *matrix, int rows, int cols, const uint8_t *const *src, uint8_t *const *dst, size_t len);

/* ---- the field ---------------------------------------------------------------------------------------------------- */

static uint8_t gf256_exp[512];                                   /* 2^i; twice, so that log a + log b needs no modulo */
static uint8_t gf256_log[256];                                   /* log 0 is not used */
static uint8_t gf256_mul[256][256];                              /* all products: 64 KiB */
static uint8_t gf256_nibbles[256][32] __attribute__((aligned(32)));  /* c * 0..15, then c * 0x00, 0x10 .. 0xF0 */
static uint64_t gf256_affine[256];                               /* c * x as an 8x8 bit matrix over GF(2) */

/* Row i of the bit matrix makes bit i of the product: its bit j says whether c * 2^j has bit i.
 * vgf2p8affineqb wants row i in byte 7 - i. (gf2p8mulb is of no use: its polynomial is 0x11B.) */
static uint64_t gf256_bit_matrix(int c) {
    uint64_t matrix = 0;
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            matrix |= (uint64_t)(gf256_mul[c][1 << j] >> i & 1) << (8 * (7 - i) + j);
    return matrix;
}

static void gf256_init(void) {
    int x = 1;
    for (int i = 0; i < 255; i++) {
        gf256_exp[i] = gf256_exp[i + 255] = (uint8_t)x;
        gf256_log[x] = (uint8_t)i;
        x <<= 1;
        if (x & 0x100) x ^= GF256_POLYNOMIAL;
    }
    for (int a = 1; a < 256; a++)
        for (int b = 1; b < 256; b++) gf256_mul[a][b] = gf256_exp[gf256_log[a] + gf256_log[b]];
    for (int c = 0; c < 256; c++) {
        for (int n = 0; n < 16; n++) {
            gf256_nibbles[c][n] = gf256_mul[c][n];
            gf256_nibbles[c][16 + n] = gf256_mul[c][n << 4];
        }
        gf256_affine[c] = gf256_bit_matrix(c);
    }
}

/* base^exponent, where 0^0 = 1. */
static uint8_t gf256_power(uint8_t base, int exponent) {
    if (exponent == 0) return 1;
    return base ? gf256_exp[gf256_log[base] * exponent % 255] : 0;
}

/* Gauss-Jordan: turns the n x n matrix `a` into the unit matrix and `out` into the inverse of what `a` was.
 * Returns 0, or -1 when `a` has none. */
static int gf256_invert(uint8_t *a, uint8_t *out, int n) {
    memset(out, 0, (size_t)n * n);
    for (int i = 0; i < n; i++) out[i * n + i] = 1;
    for (int col = 0; col < n; col++) {
        int pivot = col;
        while (pivot < n && !a[pivot * n + col]) pivot++;
        if (pivot == n) return -1;
        const uint8_t *scale = gf256_mul[gf256_exp[255 - gf256_log[a[pivot * n + col]]]];
        for (int j = 0; j < n; j++) {
            uint8_t x = a[pivot * n + j], y = out[pivot * n + j];
            a[pivot * n + j] = a[col * n + j], out[pivot * n + j] = out[col * n + j];
            a[col * n + j] = scale[x], out[col * n + j] = scale[y];
        }
        for (int row = 0; row < n; row++) {
            const uint8_t *times = gf256_mul[a[row * n + col]];
            if (row == col || times[1] == 0) continue;
            for (int j = 0; j < n; j++) {
                a[row * n + j] ^= times[a[col * n + j]];
                out[row * n + j] ^= times[out[col * n + j]];
            }
        }
    }
    return 0;
}

/* ---- scalar: one table look-up per product ------------------------------------------------------------------------- */

static void gf256_scalar_from(const uint8_t *matrix, int rows, int cols, const uint8_t *const *src, uint8_t *const *dst,
                              size_t start, size_t len) {
    for (int r = 0; r < rows; r++) {
        uint8_t *out = dst[r];
        memset(out + start, 0, len - start);
        for (int c = 0; c < cols; c++) {
            const uint8_t *times = gf256_mul[matrix[r * cols + c]], *in = src[c];
            for (size_t i = start; i < len; i++) out[i] ^= times[in[i]];
        }
    }
}

static void gf256_scalar(const uint8_t *matrix, int rows, int cols, const uint8_t *const *src, uint8_t *const *dst, size_t len) {
    gf256_scalar_from(matrix, rows, cols, src, dst, 0, len);
}

/* ---- vectors: one shape, five instruction sets -------------------------------------------------------------------- */

#if defined(__x86_64__)
#include <immintrin.h>

#define GF256_INLINE static inline __attribute__((always_inline))

/* An instruction set NAME with TARGET says what a register is (NAME_vec), in which form it wants a coefficient
 * (NAME_factor, made by NAME_prepare), what it makes of a source register once for all rows (NAME_input, NAME_split)
 * and the product of the two (NAME_times). Loops over rows have a constant bound, so that all sums stay in registers. */
#define GF256_VECTOR_KERNEL(NAME, TARGET)                                                                              \
    TARGET GF256_INLINE void NAME##_strips(const NAME##_factor *factors, const int rows, int cols,                     \
                                           const uint8_t *const *src, uint8_t *const *dst, size_t start, size_t stop) {  \
        for (size_t i = start; i < stop; i += 2 * sizeof(NAME##_vec)) {                                                \
            const NAME##_factor *factor = factors;                                                                     \
            NAME##_vec sums[GF256_GROUP][2];                                                                           \
            for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (NAME##_vec){0};                                  \
            for (int c = 0; c < cols; c++) {                                                                           \
                const NAME##_vec *in = (const NAME##_vec *)(src[c] + i);                                               \
                NAME##_input first = NAME##_split(in[0]), second = NAME##_split(in[1]);                                \
                for (int r = 0; r < rows; r++, factor++) {                                                             \
                    sums[r][0] ^= NAME##_times(first, factor);                                                         \
                    sums[r][1] ^= NAME##_times(second, factor);                                                        \
                }                                                                                                      \
            }                                                                                                          \
            for (int r = 0; r < rows; r++) {                                                                           \
                NAME##_vec *out = (NAME##_vec *)(dst[r] + i);                                                          \
                out[0] = sums[r][0], out[1] = sums[r][1];                                                              \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    TARGET static void NAME##_group(const uint8_t *matrix, int rows, int cols, const uint8_t *const *src,              \
                                    uint8_t *const *dst, size_t start, size_t stop) {                                  \
        NAME##_factor factors[255 * GF256_GROUP];                                                                      \
        for (int c = 0; c < cols; c++)                                                                                 \
            for (int r = 0; r < rows; r++) factors[c * rows + r] = NAME##_prepare(matrix[r * cols + c]);               \
        switch (rows) {                                                                                                \
        case 1: NAME##_strips(factors, 1, cols, src, dst, start, stop); break;                                         \
        case 2: NAME##_strips(factors, 2, cols, src, dst, start, stop); break;                                         \
        case 3: NAME##_strips(factors, 3, cols, src, dst, start, stop); break;                                         \
        case 4: NAME##_strips(factors, 4, cols, src, dst, start, stop); break;                                         \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    static void NAME(const uint8_t *matrix, int rows, int cols, const uint8_t *const *src, uint8_t *const *dst,        \
                     size_t len) {                                                                                     \
        size_t whole = len - len % (2 * sizeof(NAME##_vec)), step = rows > GF256_GROUP ? GF256_TILE : whole;           \
        for (size_t start = 0; start < whole; start += step) {                                                         \
            size_t stop = whole - start < step ? whole : start + step;                                                 \
            for (int r = 0; r < rows; r += GF256_GROUP)                                                                \
                NAME##_group(matrix + r * cols, rows - r < GF256_GROUP ? rows - r : GF256_GROUP, cols, src, dst + r,   \
                             start, stop);                                                                             \
        }                                                                                                              \
        gf256_scalar_from(matrix, rows, cols, src, dst, whole, len);                                                   \
    }

/* avx2: the product is the sum of two look-ups, of the low and of the high half of each byte (vpshufb). */
#define GF256_AVX2 __attribute__((target("avx2")))
typedef __m256i_u gf256_avx2_vec;
typedef struct { __m128i low, high; } gf256_avx2_factor;
typedef struct { __m256i low, high; } gf256_avx2_input;

GF256_AVX2 GF256_INLINE gf256_avx2_factor gf256_avx2_prepare(uint8_t c) {
    const __m128i *table = (const __m128i *)gf256_nibbles[c];
    return (gf256_avx2_factor){table[0], table[1]};
}
GF256_AVX2 GF256_INLINE gf256_avx2_input gf256_avx2_split(__m256i x) {
    const __m256i half = _mm256_set1_epi8(0x0f);
    return (gf256_avx2_input){_mm256_and_si256(x, half), _mm256_and_si256(_mm256_srli_epi64(x, 4), half)};
}
GF256_AVX2 GF256_INLINE __m256i gf256_avx2_times(gf256_avx2_input x, const gf256_avx2_factor *factor) {
    __m256i low = _mm256_broadcastsi128_si256(factor->low), high = _mm256_broadcastsi128_si256(factor->high);
    return _mm256_shuffle_epi8(low, x.low) ^ _mm256_shuffle_epi8(high, x.high);
}
GF256_VECTOR_KERNEL(gf256_avx2, GF256_AVX2)

/* ssse3: the same in registers of half the size, for processors before 2013. */
#define GF256_SSSE3 __attribute__((target("ssse3")))
typedef __m128i_u gf256_ssse3_vec;
typedef struct { __m128i low, high; } gf256_ssse3_factor;
typedef struct { __m128i low, high; } gf256_ssse3_input;

GF256_SSSE3 GF256_INLINE gf256_ssse3_factor gf256_ssse3_prepare(uint8_t c) {
    const __m128i *table = (const __m128i *)gf256_nibbles[c];
    return (gf256_ssse3_factor){table[0], table[1]};
}
GF256_SSSE3 GF256_INLINE gf256_ssse3_input gf256_ssse3_split(__m128i x) {
    const __m128i half = _mm_set1_epi8(0x0f);
    return (gf256_ssse3_input){_mm_and_si128(x, half), _mm_and_si128(_mm_srli_epi64(x, 4), half)};
}
GF256_SSSE3 GF256_INLINE __m128i gf256_ssse3_times(gf256_ssse3_input x, const gf256_ssse3_factor *factor) {
    return _mm_shuffle_epi8(factor->low, x.low) ^ _mm_shuffle_epi8(factor->high, x.high);
}
GF256_VECTOR_KERNEL(gf256_ssse3, GF256_SSSE3)

/* avx512: the same in registers of twice the size. */
#define GF256_AVX512 __attribute__((target("avx512f,avx512bw")))
typedef __m512i_u gf256_avx512_vec;
typedef struct { __m128i low, high; } gf256_avx512_factor;
typedef struct { __m512i low, high; } gf256_avx512_input;

GF256_AVX512 GF256_INLINE gf256_avx512_factor gf256_avx512_prepare(uint8_t c) {
    const __m128i *table = (const __m128i *)gf256_nibbles[c];
    return (gf256_avx512_factor){table[0], table[1]};
}
GF256_AVX512 GF256_INLINE gf256_avx512_input gf256_avx512_split(__m512i x) {
    const __m512i half = _mm512_set1_epi8(0x0f);
    return (gf256_avx512_input){_mm512_and_si512(x, half), _mm512_and_si512(_mm512_srli_epi64(x, 4), half)};
}
GF256_AVX512 GF256_INLINE __m512i gf256_avx512_times(gf256_avx512_input x, const gf256_avx512_factor *factor) {
    __m512i low = _mm512_broadcast_i32x4(factor->low), high = _mm512_broadcast_i32x4(factor->high);
    return _mm512_shuffle_epi8(low, x.low) ^ _mm512_shuffle_epi8(high, x.high);
}
GF256_VECTOR_KERNEL(gf256_avx512, GF256_AVX512)

/* gfni: the product is one multiplication by a bit matrix. */
#define GF256_GFNI __attribute__((target("avx2,gfni")))
typedef __m256i_u gf256_gfni_vec;
typedef uint64_t gf256_gfni_factor;
typedef __m256i gf256_gfni_input;

GF256_GFNI GF256_INLINE gf256_gfni_factor gf256_gfni_prepare(uint8_t c) { return gf256_affine[c]; }
GF256_GFNI GF256_INLINE gf256_gfni_input gf256_gfni_split(__m256i x) { return x; }
GF256_GFNI GF256_INLINE __m256i gf256_gfni_times(gf256_gfni_input x, const gf256_gfni_factor *factor) {
    return _mm256_gf2p8affine_epi64_epi8(x, (__m256i){0} + (long long)*factor, 0);
}
GF256_VECTOR_KERNEL(gf256_gfni, GF256_GFNI)

/* gfni512: the same in registers of twice the size. */
#define GF256_GFNI512 __attribute__((target("avx512f,avx512bw,gfni")))
typedef __m512i_u gf256_gfni512_vec;
typedef uint64_t gf256_gfni512_factor;
typedef __m512i gf256_gfni512_input;

GF256_GFNI512 GF256_INLINE gf256_gfni512_factor gf256_gfni512_prepare(uint8_t c) { return gf256_affine[c]; }
GF256_GFNI512 GF256_INLINE gf256_gfni512_input gf256_gfni512_split(__m512i x) { return x; }
GF256_GFNI512 GF256_INLINE __m512i gf256_gfni512_times(gf256_gfni512_input x, const gf256_gfni512_factor *factor) {
    return _mm512_gf2p8affine_epi64_epi8(x, (__m512i){0} + (long long)*factor, 0);
}
GF256_VECTOR_KERNEL(gf256_gfni512, GF256_GFNI512)
#endif

/* ---- choice -------------------------------------------------------------------------------------------------------- */

/* The kernel of that name; NULL when there is none or this processor cannot run it. */
static gf256_kernel *gf256_find(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!strcmp(name, "ssse3") && __builtin_cpu_supports("ssse3")) return gf256_ssse3;
    if (!strcmp(name, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) return gf256_avx512;
    if (!strcmp(name, "avx2") && __builtin_cpu_supports("avx2")) return gf256_avx2;
    if (!strcmp(name, "gfni") && __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx2")) return gf256_gfni;
    if (!strcmp(name, "gfni512") && __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512bw")) return gf256_gfni512;
#endif
    return strcmp(name, "scalar") ? NULL : gf256_scalar;
}

#endif
